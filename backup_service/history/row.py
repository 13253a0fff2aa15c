"""What a backup is searched and sorted by."""

from __future__ import annotations

from typing import Any, Final

from backup_service.events import Backup
from backup_service.retention.standing import counts

COLUMNS: Final = (
    "backup_id", "requested_position", "requested_at", "requested_by", "state", "key_state",
    "reason", "log_offset", "size_bytes", "duration_s", "proven", "proven_at", "verified_at",
    "rehearsed_at", "held", "counts", "tended", "purged_at",
    "receipt_intact",
)  # fmt: skip


def folded(text: str) -> str:
    """Return a text as it is searched: without regard to case."""
    return text.casefold()


def row_of(backup: Backup, requested_position: int) -> dict[str, Any]:
    """Return the row of ``backup``, whose first event stands at ``requested_position``."""
    facts = backup.facts
    return {
        "backup_id": backup.backup_id,
        "requested_position": requested_position,
        "requested_at": facts["requested_at"],
        "requested_by": facts["requested_by"],
        "state": backup.state,
        "key_state": facts["key_state"],
        "reason": folded(facts["reason"]),
        "log_offset": facts["offset"],
        "size_bytes": facts["size_bytes"],
        "duration_s": facts["duration_s"],
        "proven": backup.state == "created" and facts["intact"] is not False,
        "proven_at": facts["proven_at"],
        "verified_at": facts["last_verified_at"],
        "rehearsed_at": facts["rehearsed_at"],
        "held": bool(facts["holds"]),
        "counts": counts(backup.as_json()),
        # Something is due for it by itself: the end of a hold, another try of a purge.
        "tended": bool(facts["holds"] or facts["purge"]) or backup.state == "purging",
        "purged_at": facts["purged_at"],
        "receipt_intact": facts["receipt_intact"],
    }
