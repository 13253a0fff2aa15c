"""View Key: once, to one; repeatable by the same request for a while."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backup_service import events as ev
from backup_service.context import BackupContext
from backup_service.events import Backup
from backup_service.keys.recipients import parse_recipients
from backup_service.keys.waiting import Viewer, Viewing
from serving.requester import Requester
from shared.api.backups import SealedKey
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import ConflictError, KeyExpired, KeyNotReady, UsageError
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

VIEWING = CrashPoint("backup.view.uncommitted")
VIEWED = CrashPoint("backup.view.committed")
DESTROYED = CrashPoint("backup.view.destroyed")


class ViewKey(BaseModel):
    """Take the key of a backup, sealed to a one-time recipient of the viewer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: UUID
    recipient: Annotated[str, Field(min_length=1, max_length=8192)]


def parse_view(document: Any) -> ViewKey:
    """Read the request. Raises UsageError, naming the field."""
    try:
        command = ViewKey.model_validate(document)
    except ValidationError as error:
        fields = ", ".join(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
        raise UsageError(f"the request is refused: {fields or 'not a JSON object'}") from None
    (recipient,) = parse_recipients([command.recipient])
    return command.model_copy(update={"recipient": recipient})


def view_key(
    context: BackupContext, backup_id: str, command: ViewKey, requester: Requester
) -> SealedKey:
    """Return the key sealed to the viewer.

    Whoever asks holds the permission and has just proved who it is; what this very request was
    given before, it gets again without another proof. An issuer on Kafka never gets a key: a log
    keeps what it is given.

    Raises KeyNotReady, KeyAlreadyViewed (with when and by whom), KeyExpired, KeyUnreadable,
    ConflictError for a backup that was encrypted to own recipients, AccessError, ProofNeeded.
    """
    viewing = repeat_viewing(context, backup_id, command, requester)
    if viewing is None:
        requester.require_proof(context.clock.now(), context.settings.access.proof_max_age_s)
        viewing = _take(context, backup_id, command, requester)
    VIEWED.reach()
    # The row first, committed, then the key: killed in between, the watch does it.
    # Nor may a fault here keep the answer back: nobody could ask for it a second time.
    context.keys.keks.destroy_or_later(UUID(backup_id))
    DESTROYED.reach()
    return {"backup_id": backup_id, "sealed_key": viewing.sealed.hex()}


def repeat_viewing(
    context: BackupContext, backup_id: str, command: ViewKey, requester: Requester
) -> Viewing | None:
    """Return what this very request was given, within the window; None for any other.

    Whoever had the key has it: no new proof is asked for it, and a session may be another one by
    now. Nothing is taken, and nothing is recorded. Raises AccessError.
    """
    requester.require("view_key")
    with postgres_faults("viewing the key"), context.pool.connection() as conn:
        viewer, now = _viewer(command, requester), context.clock.now()
        return context.keys.repeat(conn, UUID(backup_id), viewer, now)


def _take(
    context: BackupContext, backup_id: str, command: ViewKey, requester: Requester
) -> Viewing:
    try:
        with postgres_faults("viewing the key"), context.pool.connection() as conn:
            return _view(context, conn, backup_id, command, requester)
    except ConflictError as error:
        entry = _entry(requester, backup_id, "failure", error.code)
        context.record(entry, requester.correlation_id)
        error.in_trail = True
        raise


def _viewer(command: ViewKey, requester: Requester) -> Viewer:
    return Viewer(requester.name, command.request_id, command.recipient)


def _view(
    context: BackupContext,
    conn: Connection,
    backup_id: str,
    command: ViewKey,
    requester: Requester,
) -> Viewing:
    # The append lock first, whatever is done with a key: a verification or an expiry meanwhile
    # must not make this fail.
    context.store.lock_appends(conn)
    backup = context.history.load(conn, backup_id)
    _check_waits(backup)
    viewer = _viewer(command, requester)
    viewing = context.keys.view(conn, UUID(backup_id), viewer, context.clock.now())
    if viewing.first:
        meta = EventMeta(requester.name, requester.correlation_id, str(command.request_id))
        event = NewEvent(ev.KEY_VIEWED, {"backup_id": backup_id}, BACKUP_EVENTS)
        context.history.append(conn, backup_id, backup.version, [event], meta)
        context.audit.record(conn, _entry(requester, backup_id), requester.correlation_id)
        VIEWING.reach()
    return viewing


def _check_waits(backup: Backup) -> None:
    """Refuse what the history alone says of a key."""
    backup_id = backup.backup_id
    if backup.state != "created":
        raise KeyNotReady(f"the backup {backup_id} is {backup.state}")
    if backup.facts["recipients"]:
        raise ConflictError(
            f"no key of {backup_id} waits: it was encrypted to recipients of your own"
        )
    if backup.facts["key_state"] == "gone":
        raise KeyExpired(
            f"the key of {backup_id} was lost with the services' history",
            hint="Whoever stored the key still opens the backup with it. Make a new backup.",
        )


def _entry(
    requester: Requester,
    backup_id: str,
    outcome: Literal["success", "failure"] = "success",
    code: str = "",
) -> AuditEntry:
    return AuditEntry(
        "key.view", outcome, requester.name, "backup", backup_id, requester.source, code=code
    )
