"""Undo: put back what the last restore replaced, through a fence of its own, an epoch higher."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from restore_service import events as ev
from restore_service.catchup import Kept, catch_up
from restore_service.checks import check_store, check_target
from restore_service.context import AcceptedUndo, RestoreContext
from restore_service.dependents import check_dependents
from restore_service.events import Restore
from restore_service.fence import Fence, staged_position
from restore_service.notice import give_notice
from restore_service.replace import (
    check_no_other,
    complete,
    raise_fence,
    replace_instance,
    restored_event,
)
from restore_service.run import Run, Step
from restore_service.staging import (
    before_name,
    leftover_schemas,
    owner_connection,
    prepare_takeover,
)
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import NotUndoable
from shared.eventstore import NewEvent
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

PREPARED = CrashPoint("undo.prepare.committed")


def undo_restore(run: Run, accepted: AcceptedUndo) -> None:
    """Put the kept state back. What it raises ends the undo, and the instance stays as it was."""
    undone = _check(run, accepted)
    kept = catch_up(run, undone)
    _note_checked(run, undone, kept)
    give_notice(run, run.context.settings.restore.undo_notice_lead_s)
    # It may have taken a while: what stands in the way since then is named before the fence, too.
    _check_kept(run, undone)
    backup_id = UUID(undone.facts["backup_id"])
    fence = raise_fence(run, backup_id)
    _prepare(run, undone, fence)
    restored = restored_event(run, fence, backup_id, kept.source, undo_of=UUID(undone.restore_id))

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
    with context.transaction("looking for the last restore") as conn:
        undone = find_undoable(context, conn, command.restore_id)
    _check_kept(run, undone)
    return undone


def _check_kept(run: Run, undone: Restore) -> None:
    kept = before_name(undone.restore_id)
    with run.context.transaction("checking the store") as conn:
        check_no_other(run, conn)
        check_store(conn)
        if kept not in leftover_schemas(conn)[1]:
            raise NotUndoable(f"the schema {kept} is gone")
        check_dependents(conn, kept)


def _note_checked(run: Run, undone: Restore, kept: Kept) -> None:
    checks = {
        "undo_of": undone.restore_id,
        "backup_id": undone.facts["backup_id"],
        "kept": kept.facts,
        # It asks for no window: whoever looks back sees when it was.
        "in_window": run.context.settings.restore.in_window(run.context.clock.now()),
    }
    run.note(ev.CHECKED, {"checks": checks})


def _prepare(run: Run, undone: Restore, fence: Fence) -> None:
    """Put the kept state behind the new fence."""
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
        prepare_takeover(conn, kept, staged_position(fence, run.id, identity))
    PREPARED.reach()
