"""The fence: what a restore says on the log, and what the projector makes of it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from backup_service.projector.faults import StoreMoved
from backup_service.projector.store import Advance, Store
from shared.errors import NeedsArchive
from shared.instance.events import LogSource, ProjectCreated, RestoreAborted, Restored, encode
from shared.instance.position import LogPosition, write_position
from shared.messages import CloudEvent, SigningKey
from tests.plugins.instance import TestInstance, eventually
from tests.plugins.postgres import TestPostgres


def project(name: str) -> ProjectCreated:
    return ProjectCreated(id=uuid4(), name=name)


def rude(instance: TestInstance, name: str, epoch: int = 1) -> int:
    """Append an event without a look at the fence."""
    event = project(name)
    message = CloudEvent(
        type=event.TYPE,
        source="/rude",
        data=encode(event),
        extensions={"epoch": str(epoch), "actor": "rude"},
    )
    return instance.send(message.to_kafka())


def names(instance: TestInstance) -> list[str]:
    return [name for (name,) in instance.rows("SELECT name FROM instance.projects ORDER BY 1")]


def wait_fenced(instance: TestInstance, offset: int) -> LogPosition:
    eventually(lambda: instance.position().fence_offset == offset, "the fence stands")
    return instance.position()


def test_an_aborted_restore_changes_nothing(instance: TestInstance) -> None:
    restore = uuid4()
    with instance.projector() as projector:
        rude(instance, "before")
        fence = instance.started(1, restore)
        behind = rude(instance, "behind")
        row = wait_fenced(instance, fence)
        assert (row.position, row.fence_no, row.fence_restore_id) == (fence + 1, 1, restore)
        time.sleep(0.5)
        assert names(instance) == ["before"]
        assert projector.now.as_dict()["fence"] == {
            "fence_no": 1,
            "restore_id": str(restore),
            "fence_offset": fence,
        }
        instance.aborted(1, restore)
        row = instance.wait_stored(behind)
        assert not row.fenced
        last = rude(instance, "after")
        row = instance.wait_stored(last)
        assert (row.epoch, row.highest_fence_no) == (1, 1)
    assert names(instance) == ["after", "before", "behind"]


def test_a_restart_behind_the_fence_still_finds_its_end(instance: TestInstance) -> None:
    restore = uuid4()
    with instance.projector():
        fence = instance.started(4, restore)
        wait_fenced(instance, fence)
    behind = rude(instance, "behind")
    instance.aborted(4, restore)
    with instance.projector():
        instance.wait_stored(behind)
    assert names(instance) == ["behind"]


def test_a_restored_instance_goes_on_behind_the_restore(instance: TestInstance) -> None:
    with instance.projector():
        rude(instance, "lost")
        fence = instance.started(1, uuid4())
        row = wait_fenced(instance, fence)
        rude(instance, "void")
        instance.cut_over(row)
        rude(instance, "void too")
        end = instance.restored(row)
        row = instance.wait_stored(end)
        assert (row.position, row.epoch, row.fence_no) == (end + 1, 2, None)
        assert row.skipped == {"fenced": 2}
        stale = rude(instance, "stale", epoch=1)
        last = rude(instance, "new", epoch=2)
        row = instance.wait_stored(last)
        assert row.skipped == {"fenced": 2, "epoch": 1}
        assert stale < last
    assert names(instance) == ["new"]


@pytest.mark.parametrize("kind", ["unsigned", "forged"])
def test_who_is_not_the_restore_service_raises_no_fence(instance: TestInstance, kind: str) -> None:
    if kind == "forged":
        instance.started(1, uuid4(), SigningKey.create(instance.folder / "mallory.key"))
    else:
        body = b'{"restore_id":"%s","fence_no":1}' % str(uuid4()).encode()
        instance.send(
            CloudEvent(
                type="com.secryn.instance.restore_started.v1", source="/x", data=body
            ).to_kafka()
        )
    last = rude(instance, "goes on")
    with instance.projector():
        row = instance.wait_stored(last)
    assert not row.fenced
    assert row.skipped == {"unsigned": 1}
    assert names(instance) == ["goes on"]


def test_a_forged_end_does_not_lower_the_fence(instance: TestInstance) -> None:
    restore = uuid4()
    with instance.projector():
        fence = instance.started(1, restore)
        wait_fenced(instance, fence)
        forged = RestoreAborted(restore_id=restore, fence_no=1, reason="forged")
        instance.announce(forged, SigningKey.create(instance.folder / "mallory.key"))
        rude(instance, "behind")
        time.sleep(0.7)
        assert instance.position().fence_offset == fence
        assert names(instance) == []


def test_numbers_are_used_once_and_ends_must_match(instance: TestInstance) -> None:
    restore = uuid4()
    with instance.projector():
        instance.aborted(9, restore)
        fence = instance.started(3, restore)
        wait_fenced(instance, fence)
        # Another number, another restore, another fence offset: none of them is the end.
        instance.aborted(2, restore)
        instance.aborted(3, uuid4())
        instance.announce(
            Restored(
                restore_id=restore,
                fence_no=3,
                fence_offset=fence + 1,
                epoch=2,
                backup_id=uuid4(),
                undo_of=uuid4(),
            )
        )
        time.sleep(0.5)
        assert instance.position().fence_no == 3
        instance.aborted(3, restore)
        # A zombie's late Started, of this number and of an older one.
        instance.started(3, uuid4())
        instance.started(2, uuid4())
        last = rude(instance, "goes on")
        row = instance.wait_stored(last)
    assert not row.fenced
    assert row.skipped["fence_no_used"] == 2
    assert row.highest_fence_no == 3
    assert names(instance) == ["goes on"]


def test_a_rebuild_from_nothing_names_the_backup_it_needs(
    instance: TestInstance, postgres: TestPostgres
) -> None:
    backup = uuid4()
    with instance.projector():
        rude(instance, "p")
        fence = instance.started(1, uuid4())
        row = wait_fenced(instance, fence)
        instance.cut_over(row)
        end = instance.restored(row, backup_id=backup)
        instance.wait_stored(end)
    fresh = postgres.fresh_database()
    with instance.projector(dsn=fresh) as projector:
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert (stopped.code, stopped.offset) == (NeedsArchive.code, end)
        assert stopped.as_dict()["needs_archive"] == str(backup)
    # It waits at the fence: a restore can take it from there.
    assert instance.position(fresh).position == fence + 1


def test_a_way_past_a_restore_over_an_event_that_was_skipped_by_hand_needs_the_backup(
    instance: TestInstance,
) -> None:
    backup, restore = uuid4(), uuid4()
    with instance.projector() as projector:
        rude(instance, "before")
        poison = instance.send(CloudEvent(type="x", source="/x", data=b"nonsense").to_kafka())
        projector.wait_stopped()
        behind = rude(instance, "behind")
        fence = instance.started(1, restore)
        row = instance.position()
        source = LogSource(
            cluster_id=str(row.cluster_id), topic_id=str(row.topic_id), snapshot_offset=0,
            position=behind + 1,
        )  # fmt: skip
        end = instance.announce(
            Restored(
                restore_id=restore, fence_no=1, fence_offset=fence, epoch=2, backup_id=backup,
                source=source,
            )
        )  # fmt: skip
        with psycopg.connect(instance.dsn) as conn:
            write_position(conn, replace(instance.position(), position=poison + 1))

        def needs_archive() -> bool:
            stopped = projector.now.stopped
            return stopped is not None and stopped.code == NeedsArchive.code

        eventually(needs_archive, "it names the backup")
        stopped = projector.now.stopped
        assert stopped is not None
        assert (stopped.offset, stopped.as_dict()["needs_archive"]) == (end, str(backup))
    # What was there is still there: a rebuild is all or nothing.
    assert names(instance) == ["before", "behind"]


def test_a_poisoned_event_behind_the_fence_is_in_nobody_s_way(instance: TestInstance) -> None:
    with instance.projector():
        fence = instance.started(1, uuid4())
        row = wait_fenced(instance, fence)
        instance.send(CloudEvent(type="x", source="/x", data=b"nonsense").to_kafka())
        instance.cut_over(row)
        end = instance.restored(row)
        row = instance.wait_stored(end)
        assert row.skipped == {"fenced": 1}


def test_a_stopped_projector_goes_on_when_a_restore_took_the_row(instance: TestInstance) -> None:
    with instance.projector() as projector:
        instance.send(CloudEvent(type="x", source="/x", data=b"nonsense").to_kafka())
        projector.wait_stopped()
        restore = uuid4()
        fence = instance.started(1, restore)
        row = fenced_by_restore(instance, fence, restore)
        instance.cut_over(row)
        end = instance.restored(row)
        instance.wait_stored(end)
        eventually(lambda: projector.status.fault() is None, "it is ready again")
        last = rude(instance, "new", epoch=2)
        instance.wait_stored(last)
    assert names(instance) == ["new"]


def fenced_by_restore(instance: TestInstance, fence: int, restore: UUID) -> LogPosition:
    """Return the row that a restore writes when no projector did: it does not wait for ever."""
    row = instance.position()
    changes = {
        "position": fence + 1,
        "fence_no": 1,
        "fence_restore_id": restore,
        "fence_offset": fence,
        "highest_fence_no": 1,
        "last_offset": None,
        "last_event_id": None,
    }
    return LogPosition(**(vars(row) | changes))


def test_paused_across_a_cut_over_nothing_of_it_gets_through(instance: TestInstance) -> None:
    """The paused one holds events of the old state; the restored state must not see them."""
    with instance.process() as running:
        first = rude(instance, "lost")
        instance.wait_stored(first)
        os.kill(running.process.pid, signal.SIGSTOP)
        try:
            for number in range(50):
                rude(instance, f"old {number}")
            restore = uuid4()
            fence = instance.started(1, restore)
            row = fenced_by_restore(instance, fence, restore)
            instance.cut_over(row)
            end = instance.restored(row)
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        row = instance.wait_stored(end)
        assert (row.position, row.epoch, row.fence_no) == (end + 1, 2, None)
        last = rude(instance, "new", epoch=2)
        instance.wait_stored(last)
        eventually(running.ready, "it is ready again")
    assert names(instance) == ["new"]


def test_a_batch_in_hand_does_not_enter_the_restored_state(instance: TestInstance) -> None:
    with instance.projector():
        instance.wait_stored(rude(instance, "lost"))
    rude(instance, "in hand")
    with psycopg.connect(instance.dsn, autocommit=True) as conn:
        store = Store(conn, instance.position())
        batch = instance.read_log()[1:]
        assert len(batch) == 1
        row = replace(
            store.position, position=2, fence_no=1, fence_restore_id=uuid4(), fence_offset=1
        )
        instance.cut_over(row)
        with pytest.raises(StoreMoved):
            store.apply(batch, Advance(2, (batch[0].offset, batch[0].event_id)))
    assert names(instance) == []
    assert instance.position() == replace(row, epoch=2)
