"""A clock that stands still until a test sets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class HandClock:
    """The time is ``time``: ``clock.pass_(hours=6)`` moves it on."""

    time: datetime = field(default_factory=lambda: datetime(2026, 11, 24, 12, tzinfo=UTC))

    def now(self) -> datetime:
        return self.time

    def pass_(self, **passing: float) -> None:
        self.time += timedelta(**passing)
