"""A restore that was not approved, or not begun behind its approval, in time: it ends."""

from __future__ import annotations

import structlog

from restore_service import events as ev
from restore_service.approval import is_over
from restore_service.context import SERVICE, RestoreContext
from restore_service.events import Restore
from restore_service.handlers.finish import end_event
from shared.audit import AuditEntry
from shared.errors import ApprovalExpired
from shared.eventstore import EventMeta

log = structlog.get_logger(__name__)


def expired(restore: Restore) -> ApprovalExpired:
    """Return what is said of a restore that waited too long."""
    missed = "approved" if restore.state == ev.AWAITING_APPROVAL else "begun"
    return ApprovalExpired(f"the restore was not {missed} until {restore.facts['expires_at']}")


def expire_waiting(context: RestoreContext) -> None:
    """End what waited too long. Raises PostgresUnavailable."""
    with context.transaction("looking for what waits") as conn:
        waiting = context.history.waiting_ids(conn)
    for restore_id in waiting:
        _expire(context, restore_id)


def _expire(context: RestoreContext, restore_id: str) -> None:
    with context.transaction("ending what waited too long") as conn:
        # Whoever approves it at this moment comes before or after.
        context.store.lock_appends(conn)
        restore = context.history.load(conn, restore_id)
        if not restore.waiting or not is_over(restore.facts["expires_at"]):
            return
        error = expired(restore)
        meta = EventMeta(SERVICE, restore.facts["correlation_id"], restore_id)
        event = end_event(ev.EXPIRED, restore_id, error)
        context.history.append(conn, restore_id, restore.version, [event], meta)
        entry = AuditEntry(
            "restore.expire", "failure", SERVICE, "restore", restore_id, code=error.code,
            message=error.message, details=restore.names,
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
    log.warning("restore.expired", restore_id=restore_id)
