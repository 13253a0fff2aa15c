"""Holds: put on a backup, given back, or over by themselves; each holder has an own one."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from backup_service import events as ev
from backup_service.commands import HoldBackup, ReleaseBackup
from backup_service.context import SERVICE, BackupContext
from backup_service.events import Backup
from backup_service.holds import is_over
from serving.repeated import check_same
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import BackupPurging, ConflictError, HoldNotFound, UsageError
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

HOLDING = CrashPoint("backup.hold.uncommitted")
EXPIRING = CrashPoint("backup.hold.expiring")

_EVENTS: Final = UUID("4b1d37a6-4b07-5b0b-8d0e-0a6f3a9f6c11")


def hold_backup(
    context: BackupContext, backup_id: str, command: HoldBackup, requester: Requester
) -> dict[str, Any]:
    """Keep a backup from being purged; a holder's new hold replaces the old.

    A repeated command changes nothing. Raises AccessError, BackupNotFound, BackupPurging,
    ConflictError for one that has no object, UsageError for an end that is past, CommandReused.
    """
    requester.require("hold")
    if command.until is not None and command.until <= context.clock.now():
        raise UsageError(
            f"until: {command.until.isoformat()} is past",
            hint="Write a time that is to come, or leave it out: the hold then stays until it is"
            " released.",
        )
    holder = command.holder or requester.name
    data = {
        "backup_id": backup_id,
        "holder": holder,
        "reason": command.reason,
        "until": None if command.until is None else command.until.isoformat(),
    }
    with postgres_faults("holding the backup"), context.pool.connection() as conn:
        backup = _loaded(context, conn, backup_id)
        known = context.store.find(conn, _event_id(command.command_id))
        if known is None:
            _check_there(backup)
            event = NewEvent(ev.HELD, data, BACKUP_EVENTS, event_id=_event_id(command.command_id))
            _append(context, conn, backup, event, requester)
            HOLDING.reach()
        else:
            check_same(command.command_id, known, ev.HELD, data)
        return context.history.get(conn, backup_id)


def release_backup(
    context: BackupContext, backup_id: str, command: ReleaseBackup, requester: Requester
) -> dict[str, Any]:
    """Give one holder's hold back; the other holders' stay.

    A repeated command changes nothing. Raises AccessError, BackupNotFound, HoldNotFound,
    CommandReused.
    """
    requester.require("hold")
    holder = command.holder or requester.name
    with postgres_faults("releasing the backup"), context.pool.connection() as conn:
        backup = _loaded(context, conn, backup_id)
        known = context.store.find(conn, _event_id(command.command_id))
        data = {"backup_id": backup_id, "holder": holder, "reason": command.reason}
        if known is None:
            if holder not in {hold["holder"] for hold in backup.facts["holds"]}:
                raise HoldNotFound(f"{holder} has no hold on the backup {backup_id}")
            event = NewEvent(
                ev.RELEASED, data, BACKUP_EVENTS, event_id=_event_id(command.command_id)
            )
            _append(context, conn, backup, event, requester)
        else:
            check_same(command.command_id, known, ev.RELEASED, data)
        return context.history.get(conn, backup_id)


def expire_holds(context: BackupContext, backup_id: str) -> None:
    """Tell which holds are over; the rules pass them over from that moment on anyway."""
    now = context.clock.now()
    with postgres_faults("ending holds"), context.pool.connection() as conn:
        backup = _loaded(context, conn, backup_id)
        over = [hold for hold in backup.facts["holds"] if is_over(hold, now)]
        events = [
            NewEvent(
                ev.HOLD_EXPIRED,
                {"backup_id": backup_id, "holder": hold["holder"], "until": hold["until"]},
                BACKUP_EVENTS,
            )
            for hold in over
        ]
        if events:
            meta = EventMeta(SERVICE, backup_id)
            context.history.append(conn, backup_id, backup.version, events, meta)
            EXPIRING.reach()
    for hold in over:
        log.info("backup.hold_expired", backup_id=backup_id, holder=hold["holder"])


def _loaded(context: BackupContext, conn: Connection, backup_id: str) -> Backup:
    # The append lock first: whatever else happens to the backup must not make this fail.
    context.store.lock_appends(conn)
    return context.history.load(conn, backup_id)


def _check_there(backup: Backup) -> None:
    if backup.state in ("purging", "purged"):
        raise BackupPurging(f"the backup {backup.backup_id} is {backup.state}")
    if backup.state != "created":
        raise ConflictError(
            f"the backup {backup.backup_id} is {backup.state}: there is nothing to hold"
        )


def _append(
    context: BackupContext,
    conn: Connection,
    backup: Backup,
    event: NewEvent,
    requester: Requester,
) -> None:
    action = "backup.hold" if event.type == ev.HELD else "backup.release"
    meta = EventMeta(requester.name, requester.correlation_id)
    context.history.append(conn, backup.backup_id, backup.version, [event], meta)
    entry = AuditEntry(
        action, "success", requester.name, "backup", backup.backup_id, requester.source,
        message=str(event.data["reason"]),
        details={name: event.data[name] for name in ("holder", "until") if name in event.data},
    )  # fmt: skip
    context.audit.record(conn, entry, requester.correlation_id)


def _event_id(command_id: UUID) -> UUID:
    return uuid5(_EVENTS, str(command_id))
