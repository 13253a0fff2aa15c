"""How a restore ends: completed behind the cut-over, given up before it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import structlog

from restore_service import events as ev
from restore_service.context import RestoreContext
from restore_service.notice import notice_over
from restore_service.staging import become_owner, drop_if_possible, staging_name
from restore_service.voided import count_voided
from serving.access.bootstrap import note_restored
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import (
    Cancelled,
    ConcurrencyConflict,
    SecrynError,
    UnavailableError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.instance.events import RestoreAborted
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

COMPLETE_OPEN = CrashPoint("restore.complete.uncommitted")
COMPLETED = CrashPoint("restore.complete.committed")
GIVING_UP = CrashPoint("restore.abort.begun")
END_OPEN = CrashPoint("restore.abort.uncommitted")
STAGING_DROPPED = CrashPoint("restore.abort.staging_dropped")
END_RECORDED = CrashPoint("restore.abort.committed")


def complete_restore(
    context: RestoreContext, restore_id: str, meta: EventMeta, duration_s: float | None
) -> None:
    """Record the end of a restore that was cut over; may be repeated."""
    voided = count_voided(context, restore_id)
    with context.transaction("completing the restore") as conn:
        restore = context.history.load(conn, restore_id)
        if restore.ended:
            return
        data = {"restore_id": restore_id, "duration_s": duration_s} | {
            "epoch": restore.facts["epoch"], "proof": restore.facts.get("proof"),
            "voided": voided,
            # From whose backup the data are; None for an undo.
            "source_instance_id": restore.facts.get("checks", {}).get("source_instance_id"),
            "undo_of": restore.facts["undo_of"],
            # What an undo may need until the window closes: backup_service keeps it.
            "backup_id": restore.facts["backup_id"],
            "undo_window_s": context.settings.restore.undo_window_s,
        }  # fmt: skip
        completed = NewEvent(ev.COMPLETED, data, RESTORE_EVENTS)
        events = [completed, *notice_over(restore, "restored")]
        context.history.append(conn, restore_id, restore.version, events, meta)
        entry = AuditEntry(
            "restore.completed", "success", meta.actor, "restore", restore_id,
            log_offset=restore.facts["fence_offset"], details=restore.names,
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
        note_restored(conn, datetime.now(UTC))
        COMPLETE_OPEN.reach()
    COMPLETED.reach()
    log.info("restore.completed", restore_id=restore_id, duration_s=duration_s)


def give_up(context: RestoreContext, restore_id: str, error: SecrynError, meta: EventMeta) -> None:
    """Leave the instance as it was: say why, lower the fence, drop the staging schema.

    All or nothing, and in this order: while a cut-over that another session is committing may still
    make the staging schema the instance, no table of it is touched. A restore that was cut over is
    completed instead: that decision was made. While PostgreSQL is away nothing is decided; recovery
    at the next start does it.
    """
    while True:
        try:
            _give_up_once(context, restore_id, error, meta)
            return
        except ConcurrencyConflict:
            continue
        except UnavailableError as fault:
            log.warning("restore.end_unrecorded", restore_id=restore_id, code=fault.code)
            return


def _give_up_once(
    context: RestoreContext, restore_id: str, error: SecrynError, meta: EventMeta
) -> None:
    with context.transaction("reading the restore") as conn:
        restore = context.history.load(conn, restore_id)
    if restore.cut_over:
        complete_restore(context, restore_id, meta, None)
        return
    GIVING_UP.reach()
    if restore.ended:
        # Another process took this one for dead: it said so, and that is the end.
        log.warning("restore.ended_elsewhere", restore_id=restore_id, code=error.code)
        with context.transaction("dropping the staging schema") as conn:
            _drop_staging(conn, restore_id)
        return
    cancelled = isinstance(error, Cancelled)
    events: list[NewEvent] = []
    if restore.fence_open and restore.fence_no is not None:
        events.append(abort_event(restore_id, restore.fence_no, error.code))
    kind = ev.CANCELLED if cancelled else ev.ABORTED if restore.fence_open else ev.FAILED
    events.append(end_event(kind, restore_id, error))
    events += notice_over(restore, "unchanged")
    with context.transaction("recording the end") as conn:
        context.history.append(conn, restore_id, restore.version, events, meta)
        entry = AuditEntry(
            "restore.run", "failure", meta.actor, "restore", restore_id, code=error.code,
            message=error.message, details=restore.names,
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
        END_OPEN.reach()
        # Whoever was cutting over has done it, and then this one did not come so far, or cannot.
        _drop_staging(conn, restore_id)
        STAGING_DROPPED.reach()
    END_RECORDED.reach()
    log.warning("restore.ended", restore_id=restore_id, code=error.code, reason=error.message)


def _drop_staging(conn: Connection, restore_id: str) -> None:
    become_owner(conn)
    drop_if_possible(conn, staging_name(restore_id))
    conn.execute("RESET ROLE")


def end_event(kind: str, restore_id: str, error: SecrynError) -> NewEvent:
    """Return the event that ends a restore that did not come about."""
    fault = {"code": error.code, "message": error.message, "hint": error.advice}
    return NewEvent(kind, {"restore_id": restore_id, "error": fault}, RESTORE_EVENTS)


def abort_event(restore_id: str, fence_no: int, reason: str) -> NewEvent:
    """Return the event that lowers a fence."""
    aborted = RestoreAborted(restore_id=UUID(restore_id), fence_no=fence_no, reason=reason)
    return NewEvent(RestoreAborted.TYPE, aborted.model_dump(mode="json"), INSTANCE_EVENTS)
