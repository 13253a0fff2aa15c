"""What restore_service tells of restores: which backups they need, and until when.

It stands on the backup's own stream. What is not told yet keeps more, and never less: see
``retention/candidates.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID, uuid5

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from backup_service import events as ev
from backup_service.context import BackupContext
from shared.database import Connection, postgres_faults
from shared.errors import MessageUnreadable, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.between import (
    RESTORE_ABORTED,
    RESTORE_APPROVED,
    RESTORE_CANCELLED,
    RESTORE_COMPLETED,
    RESTORE_EXPIRED,
    RESTORE_FAILED,
    RESTORE_REQUESTED,
)
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

_EVENTS: Final = UUID("7b0c7a3e-61d4-5a0b-93a0-31fd5c1b2e48")
ASKED, APPROVED, RESTORED, OVER = "asked", "approved", "restored", "over"
# A restore whose end is never told, because its history was lost, needs its backup no longer than
# this: while it reads the backup it has hold of it, whatever was told.
UNTOLD: Final = timedelta(days=1)
# What a restore is to its backup after each of its events.
USES: Final[Mapping[str, str]] = MappingProxyType(
    {
        RESTORE_REQUESTED: ASKED,
        RESTORE_APPROVED: APPROVED,
        RESTORE_COMPLETED: RESTORED,
        RESTORE_ABORTED: OVER,
        RESTORE_FAILED: OVER,
        RESTORE_CANCELLED: OVER,
        RESTORE_EXPIRED: OVER,
    }
)


class _Told(BaseModel):
    """What is needed of the events; a newer release may say more."""

    model_config = ConfigDict(extra="ignore")

    restore_id: UUID
    backup_id: UUID | None = None
    undo_window_s: int | None = None
    # Until when it waits for an approval, or behind one for its start.
    expires_at: AwareDatetime | None = None


def note_use(context: BackupContext, event: CloudEvent, issuer: Issuer) -> None:
    """Append what a restore is to its backup; a second copy of the event changes nothing.

    A restore of a file, or of a backup that is not of this history, is none of ours.
    Raises SignatureInvalid, MessageUnreadable, PostgresUnavailable.
    """
    if ANNOUNCE not in issuer.permissions:
        raise SignatureInvalid(f"{issuer.id} may not tell of restores")
    try:
        told = _Told.model_validate_json(event.data)
    except ValidationError:
        raise MessageUnreadable("the event does not tell of a restore") from None
    state = USES[event.type]
    with postgres_faults("noting a restore"), context.pool.connection() as conn:
        # The append lock first: whatever else is noted of the backup must not make this fail.
        context.store.lock_appends(conn)
        backup_id = _backup_of(context, conn, told)
        event_id = _event_id(told.restore_id, state)
        if (
            backup_id is None
            or not context.history.exists(conn, backup_id)
            or context.store.find(conn, event_id) is not None
        ):
            return
        facts = {
            "backup_id": backup_id,
            "restore_id": str(told.restore_id),
            "state": state,
        } | _until(event, told, state)
        noted = NewEvent(ev.RESTORE_USES, facts, BACKUP_EVENTS, event_id=event_id)
        meta = EventMeta(
            f"issuer:{issuer.id}",
            event.extensions.get("correlationid") or str(event.id),
            str(event.id),
        )
        version = context.history.load(conn, backup_id).version
        context.history.append(conn, backup_id, version, [noted], meta)
    log.info("backup.restore_uses", backup_id=backup_id, restore_id=facts["restore_id"], use=state)


def _until(event: CloudEvent, told: _Told, state: str) -> dict[str, str | None]:
    """Return until when the backup is needed, for its start or for the undo."""
    asked = undo = None
    if state in (ASKED, APPROVED):
        asked = ((told.expires_at or event.time) + UNTOLD).isoformat()
    if state == RESTORED and told.undo_window_s is not None:
        undo = (event.time + timedelta(seconds=told.undo_window_s)).isoformat()
    return {"asked_until": asked, "undo_until": undo}


def _backup_of(context: BackupContext, conn: Connection, told: _Told) -> str | None:
    """Return which backup it is of: the end of a restore does not say, its request did."""
    if told.backup_id is not None:
        return str(told.backup_id)
    asked = context.store.find(conn, _event_id(told.restore_id, ASKED))
    return None if asked is None else str(asked.data["backup_id"])


def _event_id(restore_id: UUID, state: str) -> UUID:
    return uuid5(_EVENTS, f"{restore_id} {state}")
