"""How long a key waits: when a warning is due, and when it expires. Rules alone, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

# Before a key expires it is said so long ahead, in seconds.
WARNINGS_S: Final = (48 * 3600, 6 * 3600)


@dataclass(frozen=True)
class Wait:
    """A key that waits; ``warnings_s`` are the warnings that are still to be given."""

    backup_id: UUID
    since: datetime
    expires_at: datetime
    warnings_s: tuple[int, ...]


def warnings_within(lifetime_s: int) -> tuple[int, ...]:
    """Return the warnings of a key that waits so long: a shorter life than a warning has none."""
    return tuple(lead_s for lead_s in WARNINGS_S if lead_s < lifetime_s)


def due_warnings(wait: Wait, now: datetime) -> tuple[int, ...]:
    """Return the warnings whose time has come, the longest lead first."""
    left = wait.expires_at - now
    return tuple(lead_s for lead_s in wait.warnings_s if left <= timedelta(seconds=lead_s))


def expires_after(wait: Wait, given_s: Sequence[int], now: datetime) -> datetime:
    """Return when the key expires, now that the warnings ``given_s`` are given.

    Nobody is warned of what has happened: where the last warning comes late, for the service was
    down or the clock was wrong, at least half of its lead is left.
    """
    if not given_s or len(given_s) < len(wait.warnings_s):
        return wait.expires_at
    return max(wait.expires_at, now + timedelta(seconds=min(given_s) // 2))


def is_over(wait: Wait, now: datetime) -> bool:
    """Tell whether the key's time is over, and every warning was given."""
    return now >= wait.expires_at and not wait.warnings_s


def is_newest(wait: Wait, waiting: Sequence[Wait]) -> bool:
    """Tell whether no key of ``waiting`` began to wait later."""
    return all((other.since, other.backup_id) <= (wait.since, wait.backup_id) for other in waiting)
