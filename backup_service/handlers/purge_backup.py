"""Purge: event first, then the object, seen gone, the receipt, the waiting key; then the event.

Whoever is killed in between leaves a backup that is ``purging``, which the worker takes up. A
storage that refuses leaves the backup as it truly is: there, with the refusal beside it and the
time of the next try.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import structlog

from backup_service import events as ev
from backup_service.context import SERVICE, BackupContext, object_name, receipt_name
from backup_service.events import Backup
from backup_service.holds import active_holds, holders
from backup_service.retention.candidates import read_candidates
from backup_service.retention.evaluate import Candidate, Rule, newest_that_counts
from shared.audit import AuditEntry
from shared.backupuse import lock_alone
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import (
    BackupHeld,
    BackupInUse,
    BackupNeeded,
    BackupPurging,
    ConflictError,
    DeletionRefused,
    NewestBackup,
    ObjectNotFound,
    RulesKeep,
    SecrynError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

STARTING = CrashPoint("backup.purge.start_uncommitted")
STARTED = CrashPoint("backup.purge.start_committed")
OBJECT_DELETED = CrashPoint("backup.purge.object_deleted")
GONE = CrashPoint("backup.purge.gone")
KEY_FORGOTTEN = CrashPoint("backup.purge.key_forgotten")
KEY_DESTROYED = CrashPoint("backup.purge.key_destroyed")
ENDING = CrashPoint("backup.purge.uncommitted")
ENDED = CrashPoint("backup.purge.committed")

FIRST_RETRY: Final = timedelta(minutes=1)
LONGEST_RETRY: Final = timedelta(hours=6)


@dataclass(frozen=True)
class Ground:
    """Why a backup is purged: by a rule of retention, or by hand; and who says so."""

    why: Literal["retention", "by_hand"]
    rule: Rule | None
    reason: str
    by: str
    source: str
    correlation_id: str
    # A command's own event: the same command again finds it.
    event_id: UUID | None = None

    @property
    def meta(self) -> EventMeta:
        """Return who caused the events."""
        return EventMeta(self.by, self.correlation_id)


# Asked in the transaction that begins: does it still go?
StillPurged = Callable[[Connection, list[Candidate]], bool]


def purge_backup(
    context: BackupContext,
    backup_id: str,
    ground: Ground,
    still: StillPurged = lambda _conn, _candidates: True,
) -> bool:
    """Purge a backup, or raise what keeps it; tell whether it is gone.

    It is not when the storage refused, which is recorded.

    Raises RulesKeep when ``still`` says no by now, BackupHeld, BackupInUse, BackupNeeded, NewestBackup, BackupPurging, ConflictError for
    one that has no object, BackupNotFound, PostgresUnavailable.
    """
    with postgres_faults("beginning the purge"), context.pool.connection() as conn:
        # Behind the append lock nobody holds or downloads it, and no other purge begins.
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        _check_there(backup)
        candidates = read_candidates(context, conn)
        check_may_go(context, conn, backup, candidates)
        if not still(conn, candidates):
            raise RulesKeep(f"the rules keep the backup {backup_id} by now")
        facts = {
            "backup_id": backup_id,
            "why": ground.why,
            "rule": ground.rule,
            "reason": ground.reason,
        }
        started = NewEvent(
            ev.PURGE_STARTED, facts, BACKUP_EVENTS, event_id=ground.event_id or uuid4()
        )
        context.history.append(conn, backup_id, backup.version, [started], ground.meta)
        entry = AuditEntry(
            "backup.purge", "success", ground.by, "backup", backup_id, ground.source,
            message=ground.reason, details={"why": ground.why, "rule": ground.rule},
        )  # fmt: skip
        context.audit.record(conn, entry, ground.correlation_id)
        STARTING.reach()
    STARTED.reach()
    log.info("backup.purge_started", backup_id=backup_id, why=ground.why, rule=ground.rule)
    return finish_purge(context, backup_id)


def check_may_go(
    context: BackupContext, conn: Connection, backup: Backup, candidates: list[Candidate]
) -> None:
    """Raise what keeps a backup whatever the rules, and whoever asks."""
    backup_id = backup.backup_id
    found = next(one for one in candidates if one.backup_id == backup_id)
    if found.needed is Rule.HELD:
        held = active_holds(backup.facts, context.clock.now())
        raise BackupHeld(f"the backup {backup_id} is held by {holders(held)}")
    if found.needed is Rule.IN_USE or not lock_alone(conn, UUID(backup_id)):
        raise BackupInUse(f"the backup {backup_id} is being downloaded or restored")
    if found.needed is Rule.UNDO_WINDOW:
        raise BackupNeeded(f"a restore that can still be undone needs the backup {backup_id}")
    if found is newest_that_counts(candidates):
        raise NewestBackup(
            f"the backup {backup_id} is the newest that is proven and can be opened by someone"
        )


def _check_there(backup: Backup) -> None:
    if backup.state in ("purging", "purged"):
        raise BackupPurging(f"the backup {backup.backup_id} is {backup.state}")
    if backup.state != "created":
        raise ConflictError(f"the backup {backup.backup_id} is {backup.state}: it has no object")


def finish_purge(context: BackupContext, backup_id: str) -> bool:
    """Do what is left of a purge that has begun; tell whether the backup is gone.

    May be repeated, and done by two at once: each step is harmless the second time.
    """
    try:
        _delete_for_good(context, object_name(backup_id))
        OBJECT_DELETED.reach()
        _delete_for_good(context, receipt_name(backup_id))
        GONE.reach()
    except SecrynError as error:
        _note_refused(context, backup_id, error)
        return False
    _destroy_key(context, UUID(backup_id))
    _note_purged(context, backup_id)
    return True


def _delete_for_good(context: BackupContext, name: str) -> None:
    """Delete an object and see that it is gone. Raises DeletionRefused, UnavailableError."""
    context.objects.sweep(name)
    context.objects.delete(name)
    if _is_there(context, name):
        raise DeletionRefused(f"{name} is still there after it was deleted")


def _is_there(context: BackupContext, name: str) -> bool:
    try:
        context.objects.stat(name)
    except ObjectNotFound:
        return False
    return True


def _destroy_key(context: BackupContext, backup_id: UUID) -> None:
    """The row first, committed, then the key: an old dump opens nothing."""
    with postgres_faults("forgetting the key"), context.pool.connection() as conn:
        context.keys.give_up(conn, backup_id)
    KEY_FORGOTTEN.reach()
    context.keys.keks.destroy_or_later(backup_id)
    KEY_DESTROYED.reach()


def _note_purged(context: BackupContext, backup_id: str) -> None:
    with postgres_faults("recording the purge"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.state != "purging":
            # Another process did the rest.
            return
        purge = backup.facts["purge"]
        facts = {"backup_id": backup_id} | {name: purge[name] for name in ("why", "rule", "reason")}
        facts |= {"size_bytes": backup.facts["size_bytes"], "sha256": backup.facts["sha256"]}
        purged = NewEvent(ev.PURGED, facts, BACKUP_EVENTS)
        meta = EventMeta(purge["by"], backup_id)
        context.history.append(conn, backup_id, backup.version, [purged], meta)
        entry = AuditEntry(
            "backup.purged", "success", purge["by"], "backup", backup_id,
            message=purge["reason"], details={"why": purge["why"], "rule": purge["rule"]},
        )  # fmt: skip
        context.audit.record(conn, entry, backup_id)
        ENDING.reach()
    ENDED.reach()
    log.info("backup.purged", backup_id=backup_id, why=purge["why"], rule=purge["rule"])


def _note_refused(context: BackupContext, backup_id: str, error: SecrynError) -> None:
    """Record that the storage did not do it, and whether the object is there; with the next try."""
    try:
        is_there: bool | None = _is_there(context, object_name(backup_id))
    except SecrynError:
        is_there = None
    with postgres_faults("recording the refusal"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.state != "purging":
            return
        wait = min(FIRST_RETRY * 2 ** min(backup.facts["purge"]["attempts"] - 1, 20), LONGEST_RETRY)
        facts = {
            "backup_id": backup_id,
            "object_is_there": is_there,
            "error": {"code": error.code, "message": error.message, "hint": error.advice},
            "retry_at": (context.clock.now() + wait).isoformat(),
        }
        refused = NewEvent(ev.PURGE_REFUSED, facts, BACKUP_EVENTS)
        meta = EventMeta(SERVICE, backup_id)
        context.history.append(conn, backup_id, backup.version, [refused], meta)
        entry = AuditEntry(
            "backup.purge", "failure", SERVICE, "backup", backup_id,
            code=error.code, message=error.message,
        )  # fmt: skip
        context.audit.record(conn, entry, backup_id)
    log.error("backup.purge_refused", backup_id=backup_id, code=error.code, reason=error.message,
              retry_at=facts["retry_at"])  # fmt: skip


def give_up_purge(context: BackupContext, backup_id: str, why: str) -> None:
    """Record that a purge that the storage refused is wanted no more."""
    with postgres_faults("giving the purge up"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.state != "created" or backup.facts["purge"] is None:
            return
        facts: dict[str, Any] = {"backup_id": backup_id, "reason": why}
        given_up = NewEvent(ev.PURGE_GIVEN_UP, facts, BACKUP_EVENTS)
        meta = EventMeta(SERVICE, backup_id)
        context.history.append(conn, backup_id, backup.version, [given_up], meta)
    log.info("backup.purge_given_up", backup_id=backup_id, reason=why)
