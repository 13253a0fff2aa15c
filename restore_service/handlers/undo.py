"""Undo: put back what the last restore replaced, through a fence of its own, an epoch higher."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from restore_service import events as ev
from restore_service.checks import check_store, check_target
from restore_service.context import AcceptedUndo, RestoreContext
from restore_service.dependents import check_dependents
from restore_service.events import Restore
from restore_service.fence import Fence, staged_position
from restore_service.replace import (
    check_no_other,
    complete,
    raise_fence,
    replace_instance,
    restored_event,
)
from restore_service.rollforward import way_between
from restore_service.run import Run, Step
from restore_service.staging import (
    before_name,
    leftover_schemas,
    migrate_forward,
    owner_connection,
    prepare_takeover,
)
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import NotUndoable
from shared.eventstore import NewEvent
from shared.instance.position import read_position
from shared.instance.replay import replay
from shared.instance.retrace import Base
from shared.kafka import LogIdentity
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

PREPARED = CrashPoint("undo.prepare.committed")


def undo_restore(run: Run, accepted: AcceptedUndo) -> None:
    """Put the kept state back. What it raises ends the undo, and the instance stays as it was."""
    undone = _check(run, accepted)
    backup_id = UUID(undone.facts["backup_id"])
    fence = raise_fence(run, backup_id)
    _prepare(run, undone, fence)
    restored = restored_event(run, fence, backup_id, undo_of=UUID(undone.restore_id))

    def note_undone(conn: Connection) -> None:
        version = run.context.history.load(conn, undone.restore_id).version
        data = {"restore_id": undone.restore_id, "undone_by": run.id}
        event = NewEvent(ev.UNDONE, data, RESTORE_EVENTS)
        run.context.history.append(conn, undone.restore_id, version, [event], run.meta)

    closing_id = replace_instance(
        run, fence, before_name(undone.restore_id), restored, {}, also=note_undone
    )
    complete(run, closing_id)


def find_undoable(context: RestoreContext, conn: Connection, restore_id: UUID | None) -> Restore:
    """Return the last restore, if it can still be undone.

    Raises NotUndoable: another was asked for, its window is over, or what it replaced is gone.
    """
    last = context.history.last_restored(conn)
    if last is None:
        raise NotUndoable("there is no restore to undo")
    if restore_id is not None and str(restore_id) != last.restore_id:
        # Raises RestoreNotFound for one that never was.
        asked = context.history.load(conn, restore_id)
        raise NotUndoable(
            f"the restore {restore_id} is {asked.state}, and not the last one: "
            f"that is {last.restore_id}"
        )
    ended_at = datetime.fromisoformat(last.facts["ended_at"])
    until = ended_at + timedelta(seconds=context.settings.restore.undo_window_s)
    if last.facts["kept_as"] is None:
        raise NotUndoable(f"what the restore {last.restore_id} replaced is no longer kept")
    if datetime.now(UTC) > until:
        raise NotUndoable(f"the restore {last.restore_id} could be undone until {until:%F %T} UTC")
    return last


def _check(run: Run, accepted: AcceptedUndo) -> Restore:
    context, command = run.context, accepted.command
    run.step(Step.CHECK_KEPT)
    check_target(context, command)
    with context.transaction("checking the store") as conn:
        check_no_other(run, conn)
        check_store(conn)
        undone = find_undoable(context, conn, command.restore_id)
        kept = before_name(undone.restore_id)
        if kept not in leftover_schemas(conn)[1]:
            raise NotUndoable(f"the schema {kept} is gone")
        check_dependents(conn, kept)
    checks = {"undo_of": undone.restore_id, "backup_id": undone.facts["backup_id"]}
    run.note(ev.CHECKED, {"checks": checks})
    return undone


def _prepare(run: Run, undone: Restore, fence: Fence) -> None:
    """Bring the kept state up to the undone restore's F, and put it behind the new fence."""
    context, kept = run.context, before_name(undone.restore_id)
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(topic)
    run.step(Step.PREPARE)
    with (
        postgres_faults("preparing the undo"),
        owner_connection(context.settings.postgres.dsn) as conn,
        conn.transaction(),
    ):
        migrate_forward(conn, kept)
        _catch_up(run, undone, conn, identity)
        prepare_takeover(conn, kept, staged_position(fence, run.id, identity))
    PREPARED.reach()


def _catch_up(run: Run, undone: Restore, conn: Connection, identity: LogIdentity) -> None:
    """Fold what a projector that was behind had not folded when the restore was made.

    An undo that was given up behind this step did it already: the row shows a later epoch then. Of
    a log that is lost nothing can be folded: the state is put back as it stood.
    """
    context, kept = run.context, before_name(undone.restore_id)
    found, target = read_position(conn, kept), undone.facts["fence_offset"]
    same_log = (found.cluster_id, found.topic_id) == (identity.cluster_id, identity.topic_id)
    if found.epoch >= undone.facts["epoch"] or found.position >= target or not same_log:
        return
    way = way_between(context, Base(found.position, found.epoch), target, run.look)
    with context.kafka.log_reader(context.kafka.topic(INSTANCE_EVENTS)) as reader:
        replay(conn, kept, reader, context.issuers, way.stretches, on_progress=lambda _: run.look())
