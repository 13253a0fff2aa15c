"""The time: asked of a clock that is passed in, so that a test can set it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol


class Clock(Protocol):
    """Tell what time it is."""

    def now(self) -> datetime:
        """Return the present time, in UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK: Final = SystemClock()
