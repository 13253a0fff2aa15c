"""A kept state is brought up to its fence along a real log, from wherever a projector left it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from restore_service import events as ev
from restore_service.catchup import catch_up
from restore_service.events import Restore
from restore_service.run import Run
from restore_service.staging import before_name
from shared.errors import KeyringError, LogLost, MessageUnreadable
from shared.eventstore import NewEvent
from shared.instance.events import ProjectCreated, Restored, encode
from shared.instance.migrate import migrate
from shared.instance.position import LogPosition, first_position, read_position, write_position
from shared.instance.reading import ACTOR, EPOCH
from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent
from shared.messages.topics import RESTORE_EVENTS
from tests.plugins.instance import TestInstance
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring


class Keeping:
    """A restore that was made, what it keeps, and the log behind both."""

    def __init__(self, instance: TestInstance, restoring: Restoring) -> None:
        self.instance = instance
        context = replace(restoring.context, issuers=instance.issuers)
        self.restoring = Restoring(restoring.place, context)
        self.restore_id = restoring.requested()
        self.schema = before_name(self.restore_id)
        with instance.kafka.admin() as admin:
            identity = admin.log_identity(instance.topic)
        self.start = first_position(identity.cluster_id, identity.topic_id)

    def wrote(self, name: str, epoch: int = 1) -> int:
        event = ProjectCreated(id=uuid4(), name=name)
        extensions = {EPOCH: str(epoch), ACTOR: "tester"}
        message = CloudEvent(
            type=event.TYPE, source="/test", data=encode(event), extensions=extensions
        )
        return self.instance.send(message.to_kafka())

    def keep(self, position: LogPosition, fence_offset: int, epoch: int) -> None:
        """Have the restore keep a state at ``position``, made by a fence at ``fence_offset``."""
        with psycopg.connect(self.restoring.place.dsn("secryn_projector")) as conn:
            migrate(conn, self.schema)
            write_position(conn, position, self.schema)
        outcome = {"epoch": epoch, "fence_offset": fence_offset, "kept_as": self.schema}
        done = {"restore_id": self.restore_id, "duration_s": 1.0, "voided": None}
        self.restoring.append(
            self.restore_id,
            NewEvent(
                ev.CUT_OVER, {"restore_id": self.restore_id, "outcome": outcome}, RESTORE_EVENTS
            ),
            NewEvent(ev.COMPLETED, done, RESTORE_EVENTS),
        )

    def undone(self) -> Restore:
        with self.restoring.context.transaction("a test") as conn:
            return self.restoring.context.history.load(conn, self.restore_id)

    def run(self) -> Run:
        """Return an undo that begins."""
        undo_id = self.restoring.requested()
        with self.restoring.context.transaction("a test") as conn:
            restore = self.restoring.context.history.load(conn, undo_id)
        return Run(self.restoring.context, restore, META, time.monotonic())

    def projects(self) -> set[str]:
        with psycopg.connect(self.restoring.place.dsn()) as conn:
            rows = conn.execute(f"SELECT name FROM {self.schema}.projects".encode())
            return {row[0] for row in rows}

    def position(self) -> LogPosition:
        with psycopg.connect(self.restoring.place.dsn()) as conn:
            return read_position(conn, self.schema)


@pytest.fixture
def keeping(instance: TestInstance, postgres: TestPostgres, tmp_path: Path) -> Iterator[Keeping]:
    folder = tmp_path / "place"
    folder.mkdir()
    restoring = Restoring.create(postgres, folder, instance.settings)
    yield Keeping(instance, restoring)
    restoring.context.pool.close()


def test_of_another_log_it_is_left_as_it_stands_and_that_is_told_once(keeping: Keeping) -> None:
    keeping.wrote("on the log that is here now")
    fence = keeping.instance.started(1, UUID(keeping.restore_id))
    lost = replace(first_position("a lost cluster", "a lost topic"), position=77)
    keeping.keep(lost, fence, epoch=2)

    kept = catch_up(keeping.run(), keeping.undone())

    assert (kept.offset, kept.fence_offset) == (77, fence)
    assert kept.left_out is not None
    assert kept.left_out["code"] == LogLost.code
    assert kept.source is not None
    assert (kept.source.cluster_id, kept.source.position) == ("a lost cluster", 77)
    assert keeping.projects() == set()
    # An undo that was given up behind its fence leaves a row of its own: the next one knows.
    with psycopg.connect(keeping.restoring.place.dsn("secryn_projector")) as conn:
        write_position(conn, replace(keeping.start, position=999, epoch=3), keeping.schema)
    assert catch_up(keeping.run(), keeping.undone()) == kept
    assert keeping.restoring.types(keeping.restore_id).count(ev.KEPT_SHORT) == 1


def test_what_stands_inside_the_fence_that_made_it_stays_void(keeping: Keeping) -> None:
    """No projector saw the end of the restore before: its row stands behind an open fence."""
    first, instance = uuid4(), keeping.instance
    opened = instance.started(1, first)
    keeping.wrote("written rudely, with the epoch that is to come", epoch=2)
    instance.announce(
        Restored(
            restore_id=first, fence_no=1, fence_offset=opened, epoch=2, backup_id=uuid4(),
            undo_of=uuid4(),
        )
    )  # fmt: skip
    keeping.wrote("behind the restore before", epoch=2)
    keeping.wrote("of a writer that knew nothing of it", epoch=1)
    fence = instance.started(2, UUID(keeping.restore_id))
    keeping.wrote("behind the fence", epoch=2)
    standing = replace(
        keeping.start, position=opened + 1, epoch=2, fence_no=1, fence_restore_id=first,
        fence_offset=opened, highest_fence_no=1,
    )  # fmt: skip
    keeping.keep(standing, fence, epoch=3)

    kept = catch_up(keeping.run(), keeping.undone())

    assert (kept.left_out, kept.source) == (None, None)
    assert keeping.projects() == {"behind the restore before"}
    found = keeping.position()
    assert (found.position, found.epoch, found.fenced) == (fence, 2, False)
    # Once more nothing is left to do.
    assert catch_up(keeping.run(), keeping.undone()) == kept
    assert ev.KEPT_SHORT not in keeping.restoring.types(keeping.restore_id)


def test_what_an_aborted_fence_held_up_is_folded(keeping: Keeping) -> None:
    given_up, instance = uuid4(), keeping.instance
    opened = instance.started(1, given_up)
    keeping.wrote("behind the fence that was lowered")
    instance.aborted(1, given_up)
    fence = instance.started(2, UUID(keeping.restore_id))
    standing = replace(
        keeping.start, position=opened + 1, fence_no=1, fence_restore_id=given_up,
        fence_offset=opened, highest_fence_no=1,
    )  # fmt: skip
    keeping.keep(standing, fence, epoch=2)
    assert catch_up(keeping.run(), keeping.undone()).left_out is None
    assert keeping.projects() == {"behind the fence that was lowered"}


def test_up_to_an_event_that_cannot_be_decoded_all_is_there_and_nothing_behind_it(
    keeping: Keeping,
) -> None:
    keeping.wrote("before it")
    poison = keeping.instance.send(OutgoingMessage(None, b"no event", ()))
    keeping.wrote("behind it")
    fence = keeping.instance.started(1, UUID(keeping.restore_id))
    keeping.keep(keeping.start, fence, epoch=2)
    kept = catch_up(keeping.run(), keeping.undone())
    assert kept.left_out is not None
    assert (kept.offset, kept.left_out["code"]) == (poison, MessageUnreadable.code)
    assert keeping.projects() == {"before it"}
    assert keeping.position().position == poison


def test_across_a_restore_that_it_did_not_live_through_it_stays_as_it_stands(
    keeping: Keeping,
) -> None:
    """A store that was rebuilt, and had stopped at a restore whose backup nobody had."""
    first, instance = uuid4(), keeping.instance
    opened = instance.started(1, first)
    restored = Restored(
        restore_id=first, fence_no=1, fence_offset=opened, epoch=2, backup_id=uuid4(),
        undo_of=uuid4(),
    )  # fmt: skip
    instance.announce(restored)
    keeping.wrote("in a state that this one never was", epoch=2)
    fence = instance.started(2, UUID(keeping.restore_id))
    standing = replace(
        keeping.start, position=opened + 1, fence_no=1, fence_restore_id=first,
        fence_offset=opened, highest_fence_no=1,
    )  # fmt: skip
    keeping.keep(standing, fence, epoch=3)
    kept = catch_up(keeping.run(), keeping.undone())
    assert kept.left_out is not None
    assert (kept.offset, kept.left_out["code"]) == (opened + 1, "restore.crosses_restore")
    assert keeping.projects() == set()


def test_a_keyring_under_another_root_key_changes_nothing(keeping: Keeping) -> None:
    keeping.wrote("on the log")
    fence = keeping.instance.started(1, UUID(keeping.restore_id))
    keeping.keep(keeping.start, fence, epoch=2)
    with psycopg.connect(keeping.restoring.place.dsn("secryn_projector")) as conn:
        conn.execute(
            f"INSERT INTO {keeping.schema}.keyring (id, purpose, state, root_key_id, wrapped, "
            "check_value, created_at) VALUES (%s, 'data', 'active', 'another', %s, %s, now())".encode(),
            (uuid4(), b"w" * 40, b"c" * 16),
        )
    with pytest.raises(KeyringError):
        catch_up(keeping.run(), keeping.undone())
    assert keeping.projects() == set()
    assert keeping.position().position == 0
