"""Make the read models anew from the events, beside the running service."""

from __future__ import annotations

from typing import Any, Final

import structlog

from backup_service.context import BackupContext
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import postgres_faults

log = structlog.get_logger(__name__)

# What the progress of a rebuild is shown under.
PROGRESS: Final = "history-rebuild"


def rebuild_history(context: BackupContext, requester: Requester) -> dict[str, Any]:
    """Build each read model beside the one in use, and swap it in; all of them or none.

    Raises AccessError, ConflictError when it is under way already, PostgresUnavailable.
    """
    requester.require("configure")
    context.progress.begin(PROGRESS)
    try:
        with postgres_faults("rebuilding the history"), context.pool.connection() as conn:
            for model in context.read_models:
                context.progress.step(PROGRESS, f"folding the {model.NAME}")
                position = model.rebuild(
                    conn, lambda done, end: context.progress.advance(PROGRESS, 0, done)
                )
            row = conn.execute("SELECT count(*) FROM backup.backups").fetchone()
            report = {"backups": row[0] if row else 0, "position": position}
            entry = AuditEntry(
                "history.rebuild", "success", requester.name, "history", "backup",
                requester.source, details=report,
            )  # fmt: skip
            context.audit.record(conn, entry, requester.correlation_id)
    finally:
        context.progress.end(PROGRESS)
    log.info("history.rebuilt", **report)
    return report
