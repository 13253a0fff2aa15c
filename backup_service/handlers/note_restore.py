"""What restore_service tells of a finished restore: from where the present data came.

A standing setting that came with another instance's data stays paused until somebody confirms it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from backup_service import events as ev
from backup_service.context import BackupContext
from shared.database import Connection, postgres_faults
from shared.errors import MessageUnreadable, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

_EVENTS: Final = UUID("f2f0c3de-58f2-5f0b-b1a4-0c1d5b6f4a21")


class _Told(BaseModel):
    """What is needed of the event; a newer release may say more."""

    model_config = ConfigDict(extra="ignore")

    restore_id: UUID
    epoch: int
    source_instance_id: UUID | None = None
    undo_of: UUID | None = None


def note_restore(context: BackupContext, event: CloudEvent, issuer: Issuer) -> None:
    """Append where the data of an epoch came from; a second copy of the event changes nothing.

    Raises SignatureInvalid, MessageUnreadable, PostgresUnavailable.
    """
    if ANNOUNCE not in issuer.permissions:
        raise SignatureInvalid(f"{issuer.id} may not tell of restores")
    try:
        told = _Told.model_validate_json(event.data)
    except ValidationError:
        raise MessageUnreadable("the event does not tell of a restore") from None
    event_id = uuid5(_EVENTS, str(event.id))
    with postgres_faults("noting a restore"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        if context.store.find(conn, event_id) is not None:
            return
        here = _of_this_instance(context, conn, told)
        facts = told.model_dump(mode="json") | {"of_this_instance": here}
        noted = NewEvent(ev.RESTORE_NOTED, facts, BACKUP_EVENTS, event_id=event_id)
        version = context.store.version(conn, ev.RESTORES_STREAM)
        correlation_id = event.extensions.get("correlationid") or str(event.id)
        meta = EventMeta(f"issuer:{issuer.id}", correlation_id, str(event.id))
        context.store.append(conn, ev.RESTORES_STREAM, version, [noted], meta)
    log.info("restore.noted", restore_id=str(told.restore_id), of_this_instance=here)


def _of_this_instance(context: BackupContext, conn: Connection, told: _Told) -> bool:
    """Tell whether the data are this instance's own."""
    if told.undo_of is None:
        return told.source_instance_id == context.settings.place.instance_id
    # What an undo puts back is what was there before the undone restore.
    noted = context.store.read_stream(conn, ev.RESTORES_STREAM)
    undone = [i for i, one in enumerate(noted) if one.data["restore_id"] == str(told.undo_of)]
    if not undone:
        return False
    return undone[0] == 0 or bool(noted[undone[0] - 1].data["of_this_instance"])
