"""Run what was accepted: a restore or an undo, to its end, whichever that is."""

from __future__ import annotations

import time

import structlog

from restore_service.checks import using_source
from restore_service.context import AcceptedUndo, RestoreContext
from restore_service.handlers.finish import give_up
from restore_service.handlers.restore import restore_instance
from restore_service.handlers.undo import undo_restore
from restore_service.run import Run
from shared.errors import RestoreFailedError, SecrynError
from shared.eventstore import EventMeta

log = structlog.get_logger(__name__)


def run_accepted(context: RestoreContext, restore_id: str) -> None:
    """Run an accepted restore or undo to its end: Restored, Aborted, Failed or Cancelled."""
    with context.transaction("beginning the restore") as conn:
        # Behind the append lock a request that is being stored is stored, or never will be.
        context.store.lock_appends(conn)
        known = context.history.exists(conn, restore_id)
        restore = context.history.load(conn, restore_id) if known else None
    if restore is None or restore.waiting:
        # Its request, or its start, was never stored: the one who asked was told so.
        del context.accepted[restore_id]
        return
    accepted = context.accepted.pop(restore_id)
    if restore.ended:
        # While we were without PostgreSQL another process found nobody alive who has its key.
        log.warning("restore.ended_elsewhere", restore_id=restore_id, state=restore.state)
        return
    context.progress.begin(restore_id)
    meta = EventMeta(restore.facts["requested_by"], restore.facts["correlation_id"], restore_id)
    run = Run(context, restore, meta, time.monotonic())
    try:
        if isinstance(accepted, AcceptedUndo):
            undo_restore(run, accepted)
        else:
            with using_source(context, accepted.command):
                restore_instance(run, accepted)
    except SecrynError as error:
        give_up(context, restore_id, error, meta)
    except Exception as error:
        log.error("restore.crashed", restore_id=restore_id, exc_info=error)
        wrapped = RestoreFailedError(f"an unexpected error ({type(error).__name__})")
        give_up(context, restore_id, wrapped, meta)
    finally:
        context.progress.end(restore_id)
