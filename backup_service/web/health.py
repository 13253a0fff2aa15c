"""The health of the backups, at the top of their page: what protects, and what there is to do."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from backup_service.configuration.names import STANDING
from backup_service.configuration.reading import read_configured
from backup_service.context import BackupContext
from backup_service.history import HistoryQuery
from backup_service.history.query import KeyState, State
from backup_service.instance_view import show_status
from backup_service.keys.expiry import WARNINGS_S
from backup_service.schedule.view import show_protection
from serving.web.words import ago
from shared.database import Connection, postgres_faults
from shared.errors import SecrynError

# So many of a kind are named; of more it is said that there are more.
NAMED: Final = 3
# A key that waits no longer than this is about to expire.
SOON: Final = timedelta(seconds=max(WARNINGS_S))
# A page that says that the log does not answer is read by somebody in a hurry.
LOG_PATIENCE_S: Final = 1.0


def show_health(context: BackupContext) -> dict[str, Any]:
    """Return what the top of the page says; a part that does not answer is named, not hidden."""
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        proven = next(iter(_newest(context, conn, HistoryQuery(proven=True, limit=1))), None)
        last = next(iter(_newest(context, conn, HistoryQuery(limit=1))), None)
        damaged = HistoryQuery(state=(State.CREATED,), proven=False, limit=NAMED + 1)
        found = _keys(context, conn) | {
            "damaged": _newest(context, conn, damaged),
            "unread": _unread(context, conn),
        }
    try:
        status: dict[str, Any] | None = show_status(context, LOG_PATIENCE_S)
        fault = None
    except SecrynError as error:
        status, fault = None, error
    return found | {
        "proven": proven,
        "failed": last if last is not None and last["state"] == "failed" else None,
        "ago": None if proven is None else ago(proven["created_at"], context.clock.now()),
        "protection": show_protection(context),
        "status": status,
        "fault": fault,
        "named": NAMED,
    }


def key_wait(backup: dict[str, Any], now: datetime) -> dict[str, Any] | None:
    """Return until when a backup's key waits, and if that is near; None for one that does not wait.

    ``over`` marks one whose time is over: it waits on while no newer backup can be opened.
    """
    if backup.get("key_state") != KeyState.WAITING or not backup.get("key_expires_at"):
        return None
    until = datetime.fromisoformat(backup["key_expires_at"])
    left = until - now
    return {
        "until": until,
        "left_s": max(0.0, left.total_seconds()),
        "near": left <= SOON,
        "over": left <= timedelta(),
    }


def _newest(context: BackupContext, conn: Connection, query: HistoryQuery) -> list[dict[str, Any]]:
    backups: list[dict[str, Any]] = context.history.page(conn, query)["backups"]
    return backups


def _keys(context: BackupContext, conn: Connection) -> dict[str, Any]:
    """Return the keys that are about to expire, the first first, and the newest others that wait."""
    now = context.clock.now()
    ids = [str(wait.backup_id) for wait in context.keys.waiting(conn, now + SOON)]
    # A key may wait whose backup is not of this history any more.
    known = context.history.known(conn, ids)
    due = [backup_id for backup_id in ids if backup_id in known]
    expiring = [context.history.get(conn, backup_id) for backup_id in due[:NAMED]]
    query = HistoryQuery(key_state=(KeyState.WAITING,), limit=NAMED)
    waiting = [one for one in _newest(context, conn, query) if one["backup_id"] not in due]
    return {
        "waiting": waiting,
        "expiring": [(backup, key_wait(backup, now)) for backup in expiring],
        "expiring_more": len(due) - len(expiring),
    }


def _unread(context: BackupContext, conn: Connection) -> dict[str, str]:
    """Return which settings are stored in words that cannot be read, and why."""
    found = {
        name: read_configured(conn, context.store, model).fault for name, model in STANDING.items()
    }
    return {name: fault for name, fault in found.items() if fault is not None}
