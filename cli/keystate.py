"""A backup's key, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told_key(backup: Mapping[str, Any]) -> str:
    """Return who can open a backup, or until when its key waits; ``-`` where there is no backup."""
    match backup.get("key_state"):
        case "waiting":
            return f"key waits until {backup.get('key_expires_at')}"
        case "viewed":
            return f"key viewed by {backup['key_viewed_by']} at {backup['key_viewed_at']}"
        case "expired":
            return f"KEY EXPIRED UNSEEN at {backup['key_expired_at']}: nobody can open it"
        case "own_recipient":
            return f"for {', '.join(backup['recipients'])}"
        case "gone":
            return "key gone with a lost history"
    return "-"
