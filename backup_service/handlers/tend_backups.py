"""What is due for single backups by itself: holds that end, purges that were begun or refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog

from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.apply_retention import REASON_RETRY, retain_after
from backup_service.handlers.hold_backup import expire_holds
from backup_service.handlers.purge_backup import (
    Ground,
    finish_purge,
    give_up_purge,
    purge_backup,
)
from backup_service.holds import is_over
from shared.database import postgres_faults
from shared.errors import BackupInUse, ConflictError

log = structlog.get_logger(__name__)


def tend_backups(context: BackupContext) -> None:
    """End holds, go on with purges. Only the holder of the worker's lock may call this."""
    now = context.clock.now()
    with postgres_faults("looking for what is due"), context.pool.connection() as conn:
        tended = context.history.tended(conn)
    for backup in tended:
        if context.stop.is_set():
            return
        if any(is_over(hold, now) for hold in backup["holds"]):
            expire_holds(context, backup["backup_id"])
        purge = backup["purge"]
        if purge is None or not _is_due(purge, now):
            continue
        if backup["state"] == "purging":
            finish_purge(context, backup["backup_id"])
        elif purge["why"] == "by_hand":
            _try_again(context, backup)
        else:
            _ask_the_rules(context, backup)


def _is_due(purge: dict[str, Any], now: datetime) -> bool:
    return purge["retry_at"] is None or datetime.fromisoformat(purge["retry_at"]) <= now


def _try_again(context: BackupContext, backup: dict[str, Any]) -> None:
    """Delete by hand what the storage refused before, unless something keeps it by now."""
    purge = backup["purge"]
    ground = Ground("by_hand", None, purge["reason"], purge["by"], SERVICE, backup["backup_id"])
    try:
        purge_backup(context, backup["backup_id"], ground)
    except BackupInUse:
        # Later, then.
        return
    except ConflictError as error:
        give_up_purge(context, backup["backup_id"], error.message)


def _ask_the_rules(context: BackupContext, backup: dict[str, Any]) -> None:
    """Whether a backup still goes that the storage refused is the rules' to say; once a refusal."""
    cause = f"{backup['backup_id']} {backup['purge']['attempts']}"
    with postgres_faults("asking for retention"), context.pool.connection() as conn:
        retain_after(context, conn, cause, REASON_RETRY)
