"""What restore_service tells of a rehearsal stands beside the backup: restorable, proven at T."""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID, uuid4, uuid5

import psycopg
import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from backup_service import events as ev
from backup_service.context import BackupContext
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.errors import (
    AgeHeaderInvalid,
    ArchiveDamaged,
    ArchiveMalformed,
    MessageUnreadable,
    NotAnAgeFile,
    NotFoundError,
    SecrynError,
    SignatureInvalid,
    SignatureMissingOrBad,
    error_class,
)
from shared.eventstore import EventMeta, NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.between import REHEARSED
from shared.messages.topics import BACKUP_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

_EVENTS: Final = UUID("5d1e6d9c-9a53-5b1f-8f0a-6f6ad0a0f6c5")
# What is the stored object's fault, and not that of the key or of the one who gave it.
_OBJECTS_FAULT: Final = (
    NotAnAgeFile,
    AgeHeaderInvalid,
    ArchiveDamaged,
    ArchiveMalformed,
    SignatureMissingOrBad,
    NotFoundError,
)


class _Difference(BaseModel):
    table: str


class _Compared(BaseModel):
    differing: list[_Difference] = []
    backup_id: UUID | None = None


class _Proof(BaseModel):
    equivalent: bool | None = None
    equivalence: _Compared | None = None
    roll_forward: _Compared | None = None


class _Fault(BaseModel):
    code: str


class _Told(BaseModel):
    """What is needed of both events; a newer release may say more."""

    model_config = ConfigDict(extra="ignore")

    rehearsal_id: UUID
    backup_id: UUID | None
    sha256: str | None = None
    outcome: Literal["restorable", "differs"] | None = None
    proof: _Proof = _Proof()
    estimate: dict[str, float] | None = None
    error: _Fault | None = None


def note_rehearsal(context: BackupContext, event: CloudEvent, issuer: Issuer) -> None:
    """Append what was found to the backup's stream; a second copy of the event changes nothing.

    A rehearsal of a backup that is not of this history, or of another file, changes nothing either.
    Raises SignatureInvalid, MessageUnreadable, PostgresUnavailable.
    """
    if ANNOUNCE not in issuer.permissions:
        raise SignatureInvalid(f"{issuer.id} may not tell of restores")
    told = _read(event)
    if told.backup_id is None or (event.type != REHEARSED and not _objects_fault(told)):
        return
    try:
        with postgres_faults("noting a rehearsal"), context.pool.connection() as conn:
            _append(context, conn, event, issuer, told)
    except psycopg.DataError as error:
        # It would come again for ever, and with it nothing behind it.
        raise MessageUnreadable("the event holds what PostgreSQL cannot store") from error


def _append(
    context: BackupContext, conn: Connection, event: CloudEvent, issuer: Issuer, told: _Told
) -> None:
    event_id = uuid5(_EVENTS, str(event.id))
    # The append lock first: whatever else is noted of the backup must not make this fail.
    context.store.lock_appends(conn)
    if not context.history.exists(conn, told.backup_id):
        return
    stream = context.store.read_stream(conn, ev.stream_of(told.backup_id))
    backup = context.history.load(conn, told.backup_id)
    if any(known.event_id == event_id for known in stream) or backup.state != "created":
        return
    if told.sha256 is not None and told.sha256 != backup.facts["sha256"]:
        log.warning("rehearsal.of_another_file", backup_id=backup.backup_id)
        return
    noted = NewEvent(ev.REHEARSED, _facts(event, told), BACKUP_EVENTS, event_id=event_id)
    correlation_id = event.extensions.get("correlationid") or str(event.id)
    meta = EventMeta(f"issuer:{issuer.id}", correlation_id, str(event.id))
    context.history.append(conn, told.backup_id, backup.version, [noted], meta)
    log.info("backup.rehearsed", backup_id=backup.backup_id, outcome=noted.data["outcome"])


def refuse_event(
    context: BackupContext, event: CloudEvent | None, error: SecrynError, offset: int
) -> None:
    """Audit what claimed to come from restore_service and cannot be believed.

    Raises PostgresUnavailable.
    """
    identity = str(event.id) if event is not None else str(uuid4())
    issuer = event.extensions.get("issuer", "")[:64] if event is not None else ""
    entry = AuditEntry(
        "restore.told", "failure", f"issuer:{issuer}" if issuer else "unknown", "event",
        identity, f"kafka:{RESTORE_EVENTS}", code=error.code, message=error.message,
        details={"event_offset": offset},
    )  # fmt: skip
    context.record(entry, identity)


def _read(event: CloudEvent) -> _Told:
    try:
        return _Told.model_validate_json(event.data)
    except ValidationError:
        raise MessageUnreadable("the event does not tell of a rehearsal") from None


def _objects_fault(told: _Told) -> bool:
    return told.error is not None and issubclass(error_class(told.error.code), _OBJECTS_FAULT)


def _facts(event: CloudEvent, told: _Told) -> dict[str, Any]:
    with_log, rolled = (
        found or _Compared() for found in (told.proof.equivalence, told.proof.roll_forward)
    )
    return {
        "backup_id": str(told.backup_id),
        "rehearsal_id": str(told.rehearsal_id),
        "rehearsed_at": event.time.isoformat(),
        "outcome": told.outcome or "failed",
        "equivalent": told.proof.equivalent,
        "next_backup_id": None if rolled.backup_id is None else str(rolled.backup_id),
        "differing": sorted({found.table for found in with_log.differing + rolled.differing}),
        "estimate": told.estimate,
        "code": None if told.error is None else told.error.code,
    }
