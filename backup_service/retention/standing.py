"""What a backup is good for: proven and openable by someone, or not, and why.

``counts`` is the one place that says which backups the number of kept ones, the RPO and the
staleness rest on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from shared.errors import error_class


class Standing(StrEnum):
    """What a created backup is good for, as far as is known."""

    COUNTS = "counts"
    """Proven, and somebody can open it: its key was viewed, or it is for own recipients."""
    KEY_WAITS = "key_waits"
    """Its key waits to be viewed: nobody can open it yet."""
    KEY_EXPIRED = "key_expired"
    """Its key was destroyed unseen: nobody can open it, ever."""
    KEY_UNKNOWN = "key_unknown"
    """Adopted from its receipt: whether anybody stored the key is not known here."""
    DAMAGED = "damaged"
    """Its object was looked at since, and is not what was proven."""


_OF_KEY: Final = {
    "viewed": Standing.COUNTS,
    "own_recipient": Standing.COUNTS,
    "waiting": Standing.KEY_WAITS,
    "expired": Standing.KEY_EXPIRED,
}


def standing_of(backup: Mapping[str, Any]) -> Standing:
    """Return the standing of a created backup from what the history shows of it."""
    if _is_damaged(backup):
        return Standing.DAMAGED
    rehearsal = backup.get("rehearsal")
    if rehearsal is not None and rehearsal["outcome"] == "restorable":
        # Whoever rehearsed it had the key.
        return Standing.COUNTS
    return _OF_KEY.get(str(backup.get("key_state")), Standing.KEY_UNKNOWN)


def counts(backup: Mapping[str, Any]) -> bool:
    """Tell whether a backup of the history is there, proven, and can be opened by someone."""
    return backup["state"] == "created" and standing_of(backup) is Standing.COUNTS


def _is_damaged(backup: Mapping[str, Any]) -> bool:
    """Tell whether the last look at the object found it damaged, altered or gone."""
    verification = backup.get("last_verification")
    if verification is None or verification["intact"]:
        return False
    # A storage that did not answer has told nothing about the object.
    return not error_class(str(verification["code"])).retryable
