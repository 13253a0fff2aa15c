"""Who may see one backup: whoever reads all of them, and whoever asked for this one."""

from __future__ import annotations

from backup_service.context import BackupContext
from serving.caller import current_caller
from shared.database import postgres_faults
from shared.errors import AccessError, BackupNotFound


def check_seen(context: BackupContext, backup_id: str) -> None:
    """Refuse a caller without ``read`` what it did not ask for itself, and what there is not.

    Raises AccessError, PostgresUnavailable.
    """
    caller = current_caller()
    if "read" in caller.permissions:
        return
    try:
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            asked_by = context.history.get(conn, backup_id)["requested_by"]
    except BackupNotFound:
        asked_by = None
    if asked_by != caller.name:
        raise AccessError("the permission read is missing: this backup is not one that you made")
