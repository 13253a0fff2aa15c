"""Clocks that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class SetClock:
    """A clock that stands until it is told to go on."""

    def __init__(self, at: datetime | None = None) -> None:
        self.at = at or datetime.now(UTC)

    def now(self) -> datetime:
        return self.at

    def go(self, **by: float) -> datetime:
        """Go on by ``hours=1`` and the like, back where it is negative; return the time then."""
        self.at += timedelta(**by)
        return self.at
