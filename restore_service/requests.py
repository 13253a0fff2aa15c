"""How a request is stored: once, one at a time, and in this process's memory before it is seen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from restore_service import events as ev
from restore_service.context import Accepted, RestoreContext
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.errors import ConcurrencyConflict, RestoreInProgress
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

STORED = CrashPoint("restore.request.stored")


@dataclass(frozen=True)
class Request:
    """What is stored of a request, and what this process keeps for the run."""

    action: str
    restore_id: str
    data: dict[str, Any]
    accepted: Accepted
    reason: str
    details: dict[str, Any]


def known_request(context: RestoreContext, restore_id: str) -> dict[str, Any] | None:
    """Return the restore that an earlier copy of the same command made, if there is one."""
    with context.transaction("looking for the restore") as conn:
        if context.history.exists(conn, restore_id):
            return context.history.get(conn, restore_id)
    return None


def store_request(
    context: RestoreContext, request: Request, requester: Requester
) -> dict[str, Any]:
    """Store ``request`` and return the restore as it stands. Raises RestoreInProgress."""
    restore_id = request.restore_id
    requested = NewEvent(ev.REQUESTED, request.data, RESTORE_EVENTS)
    command_id = str(request.data["command_id"])
    meta = EventMeta(requester.name, requester.correlation_id, command_id)
    entry = AuditEntry(
        request.action, "success", requester.name, "restore", restore_id, requester.source,
        message=request.reason, details=request.details,
    )  # fmt: skip
    with context.transaction("storing the request") as conn:
        context.store.lock_appends(conn)
        running = context.history.open_ids(conn)
        if running and running != [restore_id]:
            raise RestoreInProgress(f"the restore {running[0]} is not over")
        # Where the same command came in twice at once, the other copy stored it.
        with suppress(ConcurrencyConflict), conn.transaction():
            context.history.append(conn, restore_id, 0, [requested], meta)
            context.audit.record(conn, entry, requester.correlation_id)
            # In memory before it can be seen as requested: the worker finds the key.
            context.accepted[restore_id] = request.accepted
        shown = context.history.get(conn, restore_id)
    STORED.reach()
    return shown
