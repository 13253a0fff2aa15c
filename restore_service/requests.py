"""How a request is stored: once, one at a time, and in this process's memory before it is seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from restore_service import events as ev
from restore_service.context import Accepted, RestoreContext
from restore_service.events import stream_of
from serving.repeated import check_same
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import RestoreInProgress
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

STORED = CrashPoint("restore.request.stored")


def _say_nothing() -> None:
    pass


@dataclass(frozen=True)
class Terms:
    """On what terms a request is taken: at once, unless it ``waits`` for another person.

    What is stored with it: ``data``, ``events``, audit ``entries`` and ``details``. ``tell`` is
    called when it is.
    """

    waits: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[NewEvent, ...] = ()
    entries: tuple[AuditEntry, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    tell: Callable[[], None] = _say_nothing


@dataclass(frozen=True)
class Request:
    """What is stored of a request, and what this process keeps for the run.

    ``asked`` is what a copy of the command has to ask for, too; it is stored with ``data``.
    ``terms`` are asked for in the transaction that stores it.
    """

    action: str
    restore_id: str
    asked: Mapping[str, Any]
    data: Mapping[str, Any]
    accepted: Accepted
    reason: str
    details: dict[str, Any]
    terms: Callable[[Connection], Terms] = lambda _: Terms()


def known_request(
    context: RestoreContext, restore_id: str, command_id: UUID, asked: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the restore that an earlier copy of the same command made, if there is one.

    Raises CommandReused where that one asked for something else.
    """
    with context.transaction("looking for the restore") as conn:
        return _known(context, conn, restore_id, command_id, asked)


def _known(
    context: RestoreContext,
    conn: Connection,
    restore_id: str,
    command_id: UUID,
    asked: Mapping[str, Any],
) -> dict[str, Any] | None:
    stored = context.store.read_stream(conn, stream_of(restore_id))
    if not stored:
        return None
    check_same(command_id, stored[0], ev.REQUESTED, asked)
    return context.history.get(conn, restore_id)


def store_request(
    context: RestoreContext, request: Request, requester: Requester
) -> dict[str, Any]:
    """Store ``request`` and return the restore as it stands.

    Raises RestoreInProgress, CommandReused, and what its terms raise.
    """
    restore_id = request.restore_id
    command_id = str(request.data["command_id"])
    meta = EventMeta(requester.name, requester.correlation_id, command_id)
    with context.transaction("storing the request") as conn:
        context.store.lock_appends(conn)
        # The same command came in twice at once, and the other copy stored it.
        known = _known(context, conn, restore_id, UUID(command_id), request.asked)
        if known is not None:
            return known
        terms = request.terms(conn)
        if not terms.waits:
            check_none_runs(context, conn, restore_id)
        requested = NewEvent(
            ev.REQUESTED, {**request.asked, **request.data, **terms.data}, RESTORE_EVENTS
        )
        context.history.append(conn, restore_id, 0, [requested, *terms.events], meta)
        for entry in (_entry(request, requester, terms), *terms.entries):
            context.audit.record(conn, entry, requester.correlation_id)
        if not terms.waits:
            # In memory before it can be seen as requested: the worker finds the key.
            context.accepted[restore_id] = request.accepted
        shown = context.history.get(conn, restore_id)
    terms.tell()
    STORED.reach()
    return shown


def check_none_runs(
    context: RestoreContext, conn: Connection, restore_id: str | None = None
) -> None:
    """Raise RestoreInProgress while a restore, or another than that one, has not ended."""
    running = context.history.open_ids(conn)
    if running and running != [restore_id]:
        raise RestoreInProgress(f"the restore {running[0]} is not over")


def _entry(request: Request, requester: Requester, terms: Terms) -> AuditEntry:
    return AuditEntry(
        request.action, "success", requester.name, "restore", request.restore_id,
        requester.source, message=request.reason, details={**request.details, **terms.details},
    )  # fmt: skip
