"""A backup's key, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.output import plain

_WORDS: Final = {
    "waiting": "key waits until {key_expires_at}",
    "viewed": "key viewed by {key_viewed_by} at {key_viewed_at}",
    "expired": "KEY EXPIRED UNSEEN at {key_expired_at}: nobody can open it",
    "own_recipient": "for {recipients}",
    "destroyed": "key destroyed unseen, with the backup",
    "gone": "key gone with a lost history",
}


def told_key(backup: Mapping[str, Any]) -> str:
    """Return who can open a backup, or until when its key waits; ``-`` where there is no backup."""
    words = _WORDS.get(backup.get("key_state") or "", "-")
    recipients = ", ".join(backup.get("recipients") or ())
    return plain(words.format_map({**backup, "recipients": recipients}))
