"""The backups that are there, as the rules see them, and what keeps each whatever the rules say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from backup_service.context import BackupContext
from backup_service.holds import active_holds
from backup_service.leases import leased
from backup_service.retention.evaluate import Candidate, Rule
from backup_service.retention.standing import standing_of
from shared.backupuse import used_backups
from shared.database import Connection

ALL_TIME: Final = datetime.min.replace(tzinfo=UTC)
# How restore_service names what a restore replaced while it can be undone.
_KEPT_SCHEMAS: Final = "instance\\_before\\_%"


def read_candidates(context: BackupContext, conn: Connection) -> list[Candidate]:
    """Return every backup that is there; what keeps it holds for this moment.

    In a transaction that holds the append lock nobody can hold or download one meanwhile.
    """
    now = context.clock.now()
    backups = context.history.retained(conn)
    busy = leased(conn) | used_backups(conn, [one["backup_id"] for one in backups])
    needed_from = _needed_from(conn, backups, now)
    return [
        Candidate(one["backup_id"], taken_at(one), standing_of(one),
                  _needed(one, one["backup_id"] in busy, needed_from, now))
        for one in backups
    ]  # fmt: skip


def taken_at(backup: Mapping[str, Any]) -> datetime:
    """Return when a backup's snapshot was begun, as far as is known."""
    return datetime.fromisoformat(backup["started_at"] or backup["requested_at"])


def _needed(
    backup: Mapping[str, Any], busy: bool, needed_from: datetime | None, now: datetime
) -> Rule | None:
    if active_holds(backup, now):
        return Rule.HELD
    if busy or any(_is_asked_for(use, now) for use in backup["restores"].values()):
        return Rule.IN_USE
    if needed_from is not None and taken_at(backup) >= needed_from:
        return Rule.UNDO_WINDOW
    return None


def _is_asked_for(use: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether a restore is to begin with the backup, as far as was told."""
    until = use["asked_until"]
    return until is not None and now < datetime.fromisoformat(until)


def _needed_from(conn: Connection, backups: list[dict[str, Any]], now: datetime) -> datetime | None:
    """Return since when backups are needed by a restore that can be undone; None: none is.

    What can be undone is in the catalogue of the very database, at every moment; from which backup
    a restore came was told by restore_service, and may not have been yet: then all are needed.
    """
    restores = _undoable(conn)
    sources: dict[str, datetime] = {}
    for backup in backups:
        for restore_id, use in backup["restores"].items():
            if use["undo_until"] is not None and datetime.fromisoformat(use["undo_until"]) <= now:
                restores.discard(restore_id)
            sources[restore_id] = taken_at(backup)
    return min((sources.get(restore_id, ALL_TIME) for restore_id in restores), default=None)


def _undoable(conn: Connection) -> set[str]:
    """Return the ids of the restores and undos whose replaced state is kept."""
    rows = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", (_KEPT_SCHEMAS,))
    return {str(UUID(row[0].rpartition("_")[2])) for row in rows}
