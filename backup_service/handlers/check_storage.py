"""Compare the storage with the history; whatever differs is named, and left as it is."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Final

import structlog

from backup_service import events as ev
from backup_service.context import BackupContext
from backup_service.verification.orphans import Finding, differences
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

STREAM: Final = "storage-check"
# Of more than these only the numbers are told.
NAMED_MAX: Final = 100


def check_storage(context: BackupContext, requester: Requester) -> dict[str, Any]:
    """Find objects without a backup and backups without an object; the report is an event.

    Nothing is deleted. Raises AccessError, UnavailableError: then nothing is told.
    """
    requester.require("read")
    counts: Counter[str] = Counter()
    named: list[dict[str, Any]] = []
    for found in differences(context):
        counts[found.finding] += 1
        if len(named) < NAMED_MAX:
            named.append(found.as_json())
    report = {
        "clean": not counts,
        "findings": {finding.value: counts[finding] for finding in Finding},
        "named": named,
    }
    checked = NewEvent(ev.STORAGE_CHECKED, report, BACKUP_EVENTS)
    meta = EventMeta(requester.name, requester.correlation_id)
    with postgres_faults("recording the check"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        version = context.store.version(conn, STREAM)
        context.store.append(conn, STREAM, version, [checked], meta)
        entry = AuditEntry(
            "storage.check", "success" if report["clean"] else "failure", requester.name,
            "storage", context.objects.location, requester.source,
            details={"findings": report["findings"]},
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    log.info("storage.checked", **{finding: count for finding, count in counts.items() if count})
    return report


def last_check(context: BackupContext, conn: Connection) -> datetime | None:
    """Return when the storage was last compared."""
    last = context.store.last(conn, STREAM)
    return None if last is None else last.occurred_at


def last_found(context: BackupContext, conn: Connection) -> dict[str, int]:
    """Return how much of each kind the last check found; nothing before the first one."""
    last = context.store.last(conn, STREAM)
    return {} if last is None else dict(last.data["findings"])
