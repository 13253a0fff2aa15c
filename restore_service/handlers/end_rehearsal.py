"""How a rehearsal ends: proven, failed or cancelled, and nothing of it left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from restore_service.context import SERVICE, RestoreContext
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.run import RehearsalRun
from restore_service.rehearsal.scratch import drop_all_but, drop_scratch
from shared.audit import AuditEntry
from shared.errors import (
    Cancelled,
    ConcurrencyConflict,
    Interrupted,
    SecrynError,
    UnavailableError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

log = structlog.get_logger(__name__)


def complete_rehearsal(run: RehearsalRun, result: dict[str, Any]) -> None:
    """Record what a rehearsal found. Raises Cancelled."""
    context, meta = run.context, run.meta
    event = NewEvent(ev.REHEARSED, {"rehearsal_id": run.id} | result, RESTORE_EVENTS)
    entry = AuditEntry(
        "restore.rehearse", "success", meta.actor, "rehearsal", run.id,
        log_offset=result["offset"],
        details={
            "backup_id": result["backup_id"], "outcome": result["outcome"],
            "equivalent": result["proof"]["equivalent"],
        },
    )  # fmt: skip
    try:
        with context.transaction("completing the rehearsal") as conn:
            context.rehearsals.append(conn, run.id, run.rehearsal.version, [event], meta)
            context.audit.record(conn, entry, meta.correlation_id)
    except ConcurrencyConflict:
        raise Cancelled("the rehearsal was cancelled") from None
    log.info("rehearsal.completed", rehearsal_id=run.id, outcome=result["outcome"])


def end_rehearsal(
    context: RestoreContext, rehearsal_id: str, error: SecrynError, meta: EventMeta
) -> None:
    """Drop what is left and say why. While PostgreSQL is away, the next recovery does it."""
    while True:
        try:
            drop_scratch(context, rehearsal_id)
            _record_end(context, rehearsal_id, error, meta)
            return
        except ConcurrencyConflict:
            continue
        except UnavailableError as fault:
            log.warning("rehearsal.end_unrecorded", rehearsal_id=rehearsal_id, code=fault.code)
            return


def _record_end(
    context: RestoreContext, rehearsal_id: str, error: SecrynError, meta: EventMeta
) -> None:
    with context.transaction("recording the end") as conn:
        rehearsal = context.rehearsals.load(conn, rehearsal_id)
        if rehearsal.ended:
            # Another process took this one for dead: it said so, and that is the end.
            return
        fault = {"code": error.code, "message": error.message, "hint": error.advice}
        kind = ev.CANCELLED if isinstance(error, Cancelled) else ev.FAILED
        data = {
            "rehearsal_id": rehearsal_id, "error": fault,
            # Of a file that somebody brought nothing is known of a stored backup.
            "backup_id": rehearsal.facts["backup_id"] if not rehearsal.facts["upload_id"] else None,
        }  # fmt: skip
        event = NewEvent(kind, data, RESTORE_EVENTS)
        context.rehearsals.append(conn, rehearsal_id, rehearsal.version, [event], meta)
        entry = AuditEntry(
            "restore.rehearse", "failure", meta.actor, "rehearsal", rehearsal_id,
            code=error.code, message=error.message,
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
    log.warning("rehearsal.ended", rehearsal_id=rehearsal_id, code=error.code, reason=error.message)


def recover_rehearsals(context: RestoreContext, runner_lives: Callable[[str], bool]) -> None:
    """End rehearsals that nobody runs, and drop what they left; their keys were kept nowhere.

    Only the holder of the rehearsals' lock may call this. Raises PostgresUnavailable.
    """
    with context.transaction("looking for abandoned rehearsals") as conn:
        found = [context.rehearsals.load(conn, i) for i in context.rehearsals.open_ids(conn)]
    going_on = set(context.to_rehearse)
    for rehearsal in found:
        if rehearsal.rehearsal_id in going_on:
            continue
        # With the lock held, nothing of our own is running: what we lost, we end.
        if rehearsal.runner != context.runner and runner_lives(rehearsal.runner):
            going_on.add(rehearsal.rehearsal_id)
            continue
        fault = Interrupted("the service ended during the rehearsal; its key was kept nowhere")
        meta = EventMeta(SERVICE, rehearsal.facts["correlation_id"], rehearsal.rehearsal_id)
        end_rehearsal(context, rehearsal.rehearsal_id, fault, meta)
    drop_all_but(context, going_on)
