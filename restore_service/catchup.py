"""What a restore keeps for its undo, brought up to that restore's fence: before any new fence.

A projector that was behind had not folded all that stood before F. What is missing is folded into
the kept state. An event that cannot be folded, or a log that does not lead there, ends that: the
state is put back as far as it came, and the undo says so. In its report; in the undone restore's
stream, for another undo finds the state as this one leaves it; and on the log, where the source of
the undo's Restored names the place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from restore_service import events as ev
from restore_service.events import Restore
from restore_service.rollforward import Way, way_from_kept
from restore_service.run import Run
from restore_service.staging import (
    before_name,
    check_keyring,
    empty_schema,
    migrate_forward,
    owner_connection,
)
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import CrossesRestore, LogGap, LogLost
from shared.eventstore import NewEvent
from shared.instance.events import LogSource
from shared.instance.position import LogPosition, read_position, write_position
from shared.instance.replay import replay_as_far
from shared.instance.retrace import BEGINNING
from shared.kafka import LogIdentity
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

CAUGHT_UP = CrashPoint("undo.catch_up.committed")
_OTHER_ROOT: Final = (
    "Give the place the root key of then back and undo, or restore a backup of then: its data keys "
    "come unwrapped."
)


@dataclass(frozen=True)
class Kept:
    """The kept state: all of ``log[0 .. offset)``, and why it is not all before the fence."""

    cluster_id: str | None
    topic_id: str | None
    offset: int
    fence_offset: int
    left_out: dict[str, str] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the report and the events say of it."""
        return {
            "cluster_id": self.cluster_id, "topic_id": self.topic_id, "offset": self.offset,
            "fence_offset": self.fence_offset, "left_out": self.left_out,
        }  # fmt: skip

    @property
    def source(self) -> LogSource | None:
        """Return what the state equals, where that is not the one before the fence."""
        if self.left_out is None or self.cluster_id is None or self.topic_id is None:
            return None
        return LogSource(
            cluster_id=self.cluster_id,
            topic_id=self.topic_id,
            snapshot_offset=self.offset,
            position=self.offset,
        )


def catch_up(run: Run, undone: Restore) -> Kept:
    """Bring what ``undone`` keeps up to its fence, or as far as it goes; all of it or nothing.

    It is the state of the same moment as before, and may be kept on: nothing is raised and nobody
    is held up yet. Raises KeyringError, Cancelled, Interrupted, KafkaUnavailable,
    RestoreFailedError when the schema is gone.
    """
    context, schema = run.context, before_name(undone.restore_id)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(context.kafka.topic(INSTANCE_EVENTS))
    # A session of its own: it may take as long as the log is long, and looks are taken meanwhile.
    with (
        postgres_faults("bringing the kept state up"),
        owner_connection(context.settings.postgres.dsn) as conn,
        conn.transaction(),
    ):
        migrate_forward(conn, schema)
        kept = _brought_up(run, undone, conn, identity)
        check_keyring(conn, schema, context.root, where="of the kept state", hint=_OTHER_ROOT)
        conn.execute("RESET ROLE")
        if kept.left_out is not None and "kept" not in undone.facts:
            _tell(run, undone, conn, kept)
    CAUGHT_UP.reach()
    return kept


def _brought_up(run: Run, undone: Restore, conn: Connection, identity: LogIdentity) -> Kept:
    schema, target = before_name(undone.restore_id), int(undone.facts["fence_offset"])
    if "kept" in undone.facts:
        # An undo that was given up found that out, and the row may be its own by now.
        return Kept(**undone.facts["kept"])
    found = read_position(conn, schema)
    here = (identity.cluster_id, identity.topic_id)
    if found.epoch >= undone.facts["epoch"]:
        # An undo that was given up behind its fence brought all of it up, and wrote its own row.
        return Kept(*here, target, target)
    if (found.cluster_id, found.topic_id) != here:
        error = LogLost("what was folded last is on another log than the one that is here now")
        return _short(found, target, error.code, error.message)
    if found.position >= target:
        return Kept(*here, target, target)
    try:
        way = way_from_kept(run.context, found, target, run.look)
    except (CrossesRestore, LogGap) as error:
        return _short(found, target, error.code, error.message)
    return _folded(run, conn, schema, found, way)


def _folded(run: Run, conn: Connection, schema: str, found: LogPosition, way: Way) -> Kept:
    context = run.context
    if way.base == BEGINNING and found.position > 0:
        # Only the whole log leads across a restore that this state did not live through.
        empty_schema(conn, schema)
    with context.kafka.log_reader(context.kafka.topic(INSTANCE_EVENTS)) as reader:
        replayed, ended = replay_as_far(
            conn, schema, reader, context.issuers, way.stretches, on_progress=lambda _: run.look()
        )
    reached = way.target if ended is None else ended.offset
    write_position(conn, replace(found.lowered(), position=reached), schema)
    log.info("undo.caught_up", restore_id=run.id, reached=reached, applied=replayed.applied)
    if ended is None:
        return Kept(found.cluster_id, found.topic_id, reached, way.target)
    return _short(
        replace(found, position=reached), way.target, ended.fault.code, ended.fault.message
    )


def _short(found: LogPosition, target: int, code: str, message: str) -> Kept:
    left_out = {"code": code, "message": message}
    return Kept(found.cluster_id, found.topic_id, found.position, target, left_out)


def _tell(run: Run, undone: Restore, conn: Connection, kept: Kept) -> None:
    context = run.context
    context.store.lock_appends(conn)
    version = context.history.load(conn, undone.restore_id).version
    data = {"restore_id": undone.restore_id, "kept": kept.facts}
    event = NewEvent(ev.KEPT_SHORT, data, RESTORE_EVENTS)
    context.history.append(conn, undone.restore_id, version, [event], run.meta)
    log.warning("undo.kept_short", restore_id=run.id, undo_of=undone.restore_id, **kept.facts)
