"""No backup that counts within the set time: told once, and once more when there is one again."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog

from backup_service import events as ev
from backup_service.configuration.reading import read_configured
from backup_service.configuration.staleness import Staleness
from backup_service.context import SERVICE, BackupContext
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.errors import ConcurrencyConflict, LogLost
from shared.eventstore import EventMeta, NewEvent, StoredEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)


def watch_staleness(context: BackupContext) -> None:
    """Append that backups are stale, or are so no longer, if that is news. Raises UnavailableError.

    Where no backup ever counted, the time runs from when this was first asked.
    """
    with (
        suppress(ConcurrencyConflict, LogLost),
        postgres_faults("looking for a fresh backup"),
        context.pool.connection() as conn,
    ):
        last = context.store.last(conn, ev.STALENESS_STREAM)
        if last is None:
            _append(context, conn, None, ev.WATCH_BEGAN, {})
            return
        found = measure(context, conn)
        was = last.type == ev.STALE
        if found["stale"] == was:
            return
        _append(context, conn, last, ev.STALE if found["stale"] else ev.FRESH, found)
        log.warning("backups.stale" if found["stale"] else "backups.fresh", **found)


def measure(context: BackupContext, conn: Connection) -> dict[str, Any]:
    """Return how old the newest backup that counts is, and whether that is too old."""
    within_s = read_configured(conn, context.store, Staleness).value.within_s
    backup = context.history.newest_counting(conn)
    if backup is not None:
        since = datetime.fromisoformat(backup["started_at"])
    else:
        began = next(iter(context.store.read_stream(conn, ev.STALENESS_STREAM)[:1]), None)
        since = context.clock.now() if began is None else began.occurred_at
    age = context.clock.now() - since
    return {
        "stale": within_s is not None and age > timedelta(seconds=within_s),
        "within_s": within_s,
        "since": since.isoformat(),
        "backup_id": None if backup is None else backup["backup_id"],
    }


def _append(
    context: BackupContext,
    conn: Connection,
    last: StoredEvent | None,
    kind: str,
    facts: dict[str, Any],
) -> None:
    version = 0 if last is None else last.version
    meta = EventMeta(SERVICE, f"staleness-{version + 1}")
    event = NewEvent(kind, facts, BACKUP_EVENTS)
    context.store.append(conn, ev.STALENESS_STREAM, version, [event], meta)
    if kind != ev.WATCH_BEGAN:
        entry = AuditEntry(
            "backups.staleness",
            "failure" if kind == ev.STALE else "success",
            SERVICE,
            "instance",
            str(context.settings.place.instance_id),
            details=facts,
        )
        context.audit.record(conn, entry, meta.correlation_id)
