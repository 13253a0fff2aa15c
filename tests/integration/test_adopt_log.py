"""`instance adopt-log`: who may, when not, and that it happens once and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.commands import AdoptLog, parse_command
from backup_service.handlers import decide
from backup_service.handlers.adopt_log import adopt_log
from shared.database import Lock, try_lock
from shared.errors import (
    AccessError,
    BackupInProgress,
    EventRejected,
    LogLost,
    LogNotEmpty,
    LogNotLost,
    RestoreInProgress,
    SecrynError,
    TargetMismatch,
    UsageError,
)
from shared.instance.events import ProjectCreated, Restored, RestoreStarted, encode
from shared.instance.writer import NewEvent
from shared.messages import CloudEvent
from tests.backing import Backing
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

ACTION = "instance.adopt_log"


@pytest.fixture
def backing(postgres: TestPostgres, kafka: TestKafka, tmp_path: Path) -> Iterator[Backing]:
    """A place whose store has folded three projects."""
    made = Backing.create(postgres, kafka, tmp_path)
    with made.stack:
        with made.projector():
            for name in ("a", "b", "c"):
                made.writer.wait_until_stored(made.add(name), 20)
        yield made


def asked(backing: Backing, **named: Any) -> AdoptLog:
    return parse_command(AdoptLog, {"instance_id": str(backing.instance_id)} | named)


def rude(name: str, epoch: int = 1) -> CloudEvent:
    """An event of a writer that does not look whether the log is the store's."""
    event = ProjectCreated(id=uuid4(), name=name)
    extensions = {"epoch": str(epoch), "actor": "rude"}
    return CloudEvent(event.TYPE, "/rude", encode(event), extensions=extensions)


def test_the_projector_goes_on_by_itself_in_the_new_log(backing: Backing) -> None:
    before = backing.position()
    with backing.projector() as projector:
        backing.lose_log()
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert (stopped.code, "adopt-log" in stopped.hint) == (LogLost.code, True)
        adopted = adopt_log(backing.context, asked(backing), backing.admin)
        backing.writer.wait_until_stored(backing.add("d"), 20)
    after = backing.position()
    assert backing.projects() == {"a", "b", "c", "d"}
    assert after.epoch == before.epoch
    assert (adopted["position"], after.topic_id) == (0, adopted["topic_id"])
    assert adopted["lost_log"]["topic_id"] == before.topic_id


def test_an_end_of_the_log_that_is_another_one_is_adopted_where_the_store_stands(
    backing: Backing,
) -> None:
    # The same topic and the same position: only its last event is not the one that was folded.
    backing.execute("UPDATE instance.log_position SET last_event_id = gen_random_uuid()")
    with backing.projector() as projector:
        projector.wait_stopped()
        for start in (None, "beginning"):
            with pytest.raises(LogNotEmpty, match="folded already"):
                adopt_log(backing.context, asked(backing, **{"from": start}), backing.admin)
        adopt_log(backing.context, asked(backing, **{"from": "end"}), backing.admin)
        backing.writer.wait_until_stored(backing.add("d"), 20)
    assert backing.projects() == {"a", "b", "c", "d"}


def test_what_is_on_the_log_already_is_a_choice_that_somebody_makes(backing: Backing) -> None:
    backing.lose_log()
    backing.send(rude("of this epoch"))
    backing.send(rude("of another", epoch=7))
    before = backing.position()
    with pytest.raises(LogNotEmpty, match="2 offsets already, 0 to 1"):
        adopt_log(backing.context, asked(backing), backing.admin)
    assert backing.position() == before
    adopted = adopt_log(backing.context, asked(backing, **{"from": "beginning"}), backing.admin)
    assert (adopted["to_apply"], adopted["passed_over"]) == (2, 0)
    with backing.projector():
        backing.writer.wait_until_stored(backing.add("d"), 20)
    assert backing.projects() == {"a", "b", "c", "d", "of this epoch"}
    assert backing.position().skipped["epoch"] == 1


def test_restore_events_of_the_lost_log_that_land_late_change_nothing(backing: Backing) -> None:
    restore_id = uuid4()
    backing.execute(
        "UPDATE instance.log_position SET fence_no = 4, fence_restore_id = %s, fence_offset = 1, "
        "highest_fence_no = 4", restore_id,
    )  # fmt: skip
    backing.lose_log()
    adopted = adopt_log(backing.context, asked(backing), backing.admin)
    assert adopted["lowered_fence"] == {"fence_no": 4, "restore_id": str(restore_id)}
    row = backing.position()
    assert (row.fenced, row.highest_fence_no) == (False, 4)
    with backing.projector():
        started = RestoreStarted(restore_id=restore_id, fence_no=4, backup_id=uuid4())
        done = Restored(
            restore_id=restore_id, fence_no=4, fence_offset=1, epoch=2, backup_id=uuid4(),
            undo_of=uuid4(),
        )  # fmt: skip
        for event in (started, done):
            backing.send(CloudEvent(event.TYPE, "/restore", encode(event)), backing.restorer)
        backing.writer.wait_until_stored(backing.add("d"), 20)
    assert backing.projects() == {"a", "b", "c", "d"}
    assert backing.position().epoch == 1


def test_a_writer_is_told_that_its_event_reached_nothing(backing: Backing) -> None:
    backing.lose_log()
    before = backing.position()
    with pytest.raises(LogLost, match="does not follow"):
        backing.add("nowhere")
    with pytest.raises(LogLost, match="does not follow"):
        backing.writer.append_all([NewEvent(ProjectCreated(id=uuid4(), name="nor this"))])
    # What a writer waits for while somebody decides: it is told to look, not that it is stored.
    for _ in range(before.position):
        backing.send(rude("another's"))
    waiting = backing.add("longer than the lost log was")
    adopt_log(backing.context, asked(backing, **{"from": "end"}), backing.admin)
    with pytest.raises(LogLost, match="went over to another log"):
        backing.writer.wait_until_stored(waiting, 20)


def test_a_rejection_of_the_lost_log_is_not_that_of_the_event_at_its_offset(
    backing: Backing,
) -> None:
    with backing.projector(), pytest.raises(EventRejected):
        backing.writer.wait_until_stored(backing.add("a"), 20)
    ((offset,),) = backing.rows("SELECT event_offset FROM instance.rejections")
    backing.lose_log()
    adopt_log(backing.context, asked(backing), backing.admin)
    with backing.projector():
        for number in range(offset + 1):
            written = backing.add(f"new {number}")
            backing.writer.wait_until_stored(written, 20)
    assert written.offset == offset


def test_a_command_that_comes_twice_decides_once(backing: Backing) -> None:
    backing.lose_log()
    command = asked(backing)
    first = adopt_log(backing.context, command, backing.admin)
    assert adopt_log(backing.context, command, backing.admin) == first
    (event,) = backing.events(ev.LOG_ADOPTED)
    (entry,) = backing.audited(ACTION)
    assert (event.data, event.actor) == (first, "anna")
    assert json.loads(json.dumps(entry["unmapped"]["details"])) == first


def test_of_many_at_once_one_adopts(backing: Backing) -> None:
    backing.lose_log()

    def ask(_: int) -> dict[str, Any] | SecrynError:
        try:
            return adopt_log(backing.context, asked(backing), backing.admin)
        except SecrynError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert len([a for a in answers if isinstance(a, dict)]) == 1
    assert len([a for a in answers if isinstance(a, LogNotLost)]) == 5
    assert len(backing.events(ev.LOG_ADOPTED)) == 1


@pytest.mark.parametrize(
    ("lock", "shared", "refusal"),
    [
        (Lock.RESTORE_WORKER, False, RestoreInProgress),
        (Lock.GUARD, True, BackupInProgress),
        (Lock.GUARD, False, BackupInProgress),
    ],
    ids=["a restore runs", "a backup reads", "a restore raises its fence"],
)
def test_nothing_is_adopted_while_somebody_is_at_work(
    backing: Backing,
    monkeypatch: pytest.MonkeyPatch,
    lock: Lock,
    shared: bool,
    refusal: type[SecrynError],
) -> None:
    monkeypatch.setattr(decide, "WAIT_S", 0.3)
    backing.lose_log()
    before = backing.position()
    with psycopg.connect(backing.place.dsn(), autocommit=True) as other:
        assert try_lock(other, lock, shared=shared)
        with pytest.raises(refusal):
            adopt_log(backing.context, asked(backing), backing.admin)
    assert backing.position() == before
    assert adopt_log(backing.context, asked(backing), backing.admin)["position"] == 0


def test_a_death_before_the_end_leaves_everything_as_it_was(backing: Backing) -> None:
    backing.lose_log()
    before = backing.position()
    backing.execute(
        "CREATE FUNCTION backup.die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$"
    )
    backing.execute(
        "CREATE TRIGGER die BEFORE INSERT ON backup.events FOR EACH ROW "
        "WHEN (NEW.stream = 'audit') EXECUTE FUNCTION backup.die()"
    )
    with pytest.raises(SecrynError):
        adopt_log(backing.context, asked(backing), backing.admin)
    assert backing.position() == before
    assert backing.events(ev.LOG_ADOPTED) == []
    backing.execute("DROP TRIGGER die ON backup.events")
    assert adopt_log(backing.context, asked(backing), backing.admin)["position"] == 0


def test_the_log_that_the_store_follows_is_not_adopted(backing: Backing) -> None:
    for start in (None, "beginning", "end"):
        with pytest.raises(LogNotLost):
            adopt_log(backing.context, asked(backing, **{"from": start}), backing.admin)
    assert backing.events(ev.LOG_ADOPTED) == []


def test_it_takes_the_right_instance_and_the_right_to_restore(backing: Backing) -> None:
    backing.lose_log()
    with pytest.raises(TargetMismatch):
        adopt_log(backing.context, asked(backing, instance_id=str(uuid4())), backing.admin)
    other = replace(backing.admin, permissions=backing.admin.permissions - {"restore"})
    with pytest.raises(AccessError):
        adopt_log(backing.context, asked(backing), other)
    for wrong in ({"from": "middle"}, {"instance_id": "x"}, {"scope": 1}, {"reason": ""}):
        with pytest.raises(UsageError):
            asked(backing, **wrong)
    assert backing.events(ev.LOG_ADOPTED) == []


def test_of_the_whole_store_backup_service_may_change_this_one_row(backing: Backing) -> None:
    with psycopg.connect(backing.place.dsn("secryn_backup"), autocommit=True) as conn:
        tables = conn.execute(
            "SELECT tablename, privilege FROM pg_tables, "
            "unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) privilege "
            "WHERE schemaname = 'instance' "
            "AND has_table_privilege('instance.' || tablename, privilege)"
        ).fetchall()
    assert tables == [("log_position", "UPDATE")]
