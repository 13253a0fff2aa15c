"""What restore_service tells stands among the operations here: noted once, by the event's id."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID, uuid5

import psycopg

from backup_service import events as ev
from backup_service.context import BackupContext
from shared.database import Connection, postgres_faults
from shared.errors import MessageUnreadable, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.cloudevents import format_time

_EVENTS: Final = UUID("0c1a8a5e-8a0b-5f0d-9a35-5b7c8d1e2f34")
_STREAM: Final = "told-"
# Of all that a restore tells, what a line of the list is made of.
_KEPT: Final = (
    "reason", "backup_id", "undo_of", "outcome", "epoch", "offset", "approved_by", "required",
    "expires_at",
)  # fmt: skip
_TEXT_MAX: Final = 500


def note_operation(context: BackupContext, event: CloudEvent, issuer: Issuer) -> None:
    """Note an event of a restore or a rehearsal; a second copy of it changes nothing.

    Raises SignatureInvalid, MessageUnreadable, PostgresUnavailable.
    """
    if ANNOUNCE not in issuer.permissions:
        raise SignatureInvalid(f"{issuer.id} may not tell of restores")
    told = {
        "type": event.type,
        "subject": event.subject,
        "actor": event.extensions.get("actor") or f"issuer:{issuer.id}",
        "time": format_time(event.time),
        "facts": _facts(event),
    }
    try:
        with postgres_faults("noting a restore"), context.pool.connection() as conn:
            _append(context, conn, event, issuer, told)
    except psycopg.DataError as error:
        # It would come again for ever, and with it nothing behind it.
        raise MessageUnreadable("the event holds what PostgreSQL cannot store") from error


def _append(
    context: BackupContext,
    conn: Connection,
    event: CloudEvent,
    issuer: Issuer,
    told: dict[str, Any],
) -> None:
    # A stream of its own, with one event, is what a second copy finds.
    stream = f"{_STREAM}{event.id}"
    context.store.lock_appends(conn)
    if context.store.version(conn, stream) > 0:
        return
    noted = NewEvent(ev.OPERATION_NOTED, told, event_id=uuid5(_EVENTS, str(event.id)))
    correlation_id = event.extensions.get("correlationid") or str(event.id)
    meta = EventMeta(f"issuer:{issuer.id}", correlation_id, str(event.id))
    context.store.append(conn, stream, 0, [noted], meta)


def _facts(event: CloudEvent) -> dict[str, Any]:
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not event.subject:
        raise MessageUnreadable("the event does not tell of a restore")
    checks = data.get("checks")
    if isinstance(checks, dict):
        # Which backup it is of, where the command brought a file, stands there alone.
        data = checks | data
    kept = {name: data[name] for name in _KEPT if _is_short(data.get(name))}
    fault = data.get("error")
    if isinstance(fault, dict) and _is_short(fault.get("code")):
        kept["error"] = {"code": str(fault["code"])}
    return kept


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _TEXT_MAX
    return isinstance(value, bool | int)
