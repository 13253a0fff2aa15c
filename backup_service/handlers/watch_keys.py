"""Watch the keys that wait: warn before one expires, expire it, destroy what is left of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid5

import structlog

from backup_service import events as ev
from backup_service.context import SERVICE, BackupContext
from backup_service.keys.expiry import (
    WARNINGS_S,
    Wait,
    due_warnings,
    expires_after,
    is_newest,
    is_over,
)
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import BackupNotFound, ConcurrencyConflict
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

# A key is warned of and expires once, whoever watches and whatever he forgot.
_ONCE = UUID("c1d3b6b0-6b0e-5a0e-8f6e-6c0d3a2b9f14")

WARNING = CrashPoint("keys.warn.uncommitted")
WARNED = CrashPoint("keys.warn.committed")
EXPIRING = CrashPoint("keys.expire.uncommitted")
EXPIRED = CrashPoint("keys.expire.committed")
DESTROYED = CrashPoint("keys.expire.destroyed")


def watch_keys(context: BackupContext) -> None:
    """Do what is due now for every key that waits, and then tidy. Raises PostgresUnavailable.

    Any number of processes may do so at once: of each key one does what is due, once.
    """
    soon = context.clock.now() + timedelta(seconds=max(WARNINGS_S))
    with postgres_faults("looking for waiting keys"), context.pool.connection() as conn:
        due = context.keys.waiting(conn, soon)
    for wait in due:
        try:
            if due_warnings(wait, context.clock.now()):
                _warn(context, wait.backup_id)
            elif is_over(wait, context.clock.now()):
                _expire(context, wait.backup_id)
        except ConcurrencyConflict as error:
            # It was said before, and somebody put the row back: that keeps no other key waiting.
            log.error("key.unwatched", backup_id=str(wait.backup_id), reason=error.message)
    tidy_keys(context)


def _warn(context: BackupContext, backup_id: UUID) -> None:
    now = context.clock.now()
    with postgres_faults("warning of a key"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        wait = context.keys.wait(conn, backup_id)
        given = () if wait is None else due_warnings(wait, now)
        if wait is None or not given:
            return
        expires_at = expires_after(wait, given, now)
        for lead_s in given:
            _append(context, conn, _warning(wait, lead_s, expires_at, now))
        left = [lead_s for lead_s in wait.warnings_s if lead_s not in given]
        context.keys.put_off(conn, backup_id, expires_at, left)
        WARNING.reach()
    WARNED.reach()
    log.warning("key.expires_soon", backup_id=str(backup_id), expires_at=expires_at.isoformat())


def _warning(wait: Wait, lead_s: int, expires_at: datetime, now: datetime) -> NewEvent:
    return NewEvent(
        ev.KEY_EXPIRING,
        {
            "backup_id": str(wait.backup_id),
            "warned_before_s": lead_s,
            "left_s": round((expires_at - now).total_seconds()),
            "expires_at": expires_at.isoformat(),
            "waits_since": wait.since.isoformat(),
        },
        BACKUP_EVENTS,
        event_id=uuid5(_ONCE, f"{wait.backup_id} {lead_s}"),
    )


def _expire(context: BackupContext, backup_id: UUID) -> None:
    now = context.clock.now()
    with postgres_faults("expiring a key"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        wait = context.keys.wait(conn, backup_id)
        if wait is None or not is_over(wait, now) or _held_over(context, conn, wait):
            return
        data = {
            "backup_id": str(backup_id),
            "expired_at": now.isoformat(),
            "waits_since": wait.since.isoformat(),
        }
        event_id = uuid5(_ONCE, f"{backup_id} expired")
        _append(context, conn, NewEvent(ev.KEY_EXPIRED, data, BACKUP_EVENTS, event_id=event_id))
        entry = AuditEntry(
            "key.expire", "success", SERVICE, "backup", str(backup_id),
            message="nobody viewed the key in time: nobody can open the backup",
        )  # fmt: skip
        context.audit.record(conn, entry, str(backup_id))
        context.keys.expire(conn, backup_id, now)
        EXPIRING.reach()
    EXPIRED.reach()
    # The row first, committed, then the key: killed in between, tidying does it.
    context.keys.keks.destroy_or_later(backup_id)
    DESTROYED.reach()
    log.warning("key.expired_unseen", backup_id=str(backup_id))


def _held_over(context: BackupContext, conn: Connection, wait: Wait) -> bool:
    """Tell whether no newer key waits, and no newer backup can be opened.

    An old backup that was adopted late stands for itself: its time says that it is not newer.
    """
    if not is_newest(wait, context.keys.waiting(conn)):
        return False
    newest = context.history.newest_counting(conn)
    own = context.history.load(conn, wait.backup_id).facts["proven_at"]
    return newest is None or _time(newest["proven_at"]) <= _time(own)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _append(context: BackupContext, conn: Connection, event: NewEvent) -> None:
    backup_id = event.data["backup_id"]
    version = context.history.load(conn, backup_id).version
    context.history.append(conn, backup_id, version, [event], EventMeta(SERVICE, backup_id))


def tidy_keys(context: BackupContext) -> None:
    """Forget viewings that may not be repeated any more; destroy what a killed process left."""
    with postgres_faults("tidying keys"), context.pool.connection() as conn:
        context.keys.end_repeats(conn, context.clock.now())
        found = context.keys.keks.found()
        left = [
            one for one in found - context.keys.among(conn, found) if _ended(context, conn, one)
        ]
        # Asked again: a backup that has ended since the first time has let its key wait meanwhile.
        for backup_id in set(left) - context.keys.among(conn, left):
            context.keys.keks.destroy_or_later(backup_id)


def _ended(context: BackupContext, conn: Connection, backup_id: UUID) -> bool:
    """Tell whether a backup is of this history, and over: its key comes no more."""
    with suppress(BackupNotFound):
        return context.history.load(conn, backup_id).ended
    return False
