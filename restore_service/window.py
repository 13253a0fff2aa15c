"""Maintenance windows: when a restore may begin without a reason."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"^(?:(?P<days>[a-z,-]+) )?(?P<from>[0-9]{2}:[0-9]{2})-(?P<to>[0-9]{2}:[0-9]{2})$"
)


class Window:
    """A window such as ``mon-fri 22:00-05:00``: on those days from, until the time that follows."""

    def __init__(self, text: str) -> None:
        """Parse ``text``. Raises ValueError, saying what a window looks like."""
        matched = _WINDOW.match(text)
        if matched is None:
            raise ValueError(f"{text!r} is no window: write `mon-fri 22:00-05:00`")
        self.begin, self.end = _time(matched["from"]), _time(matched["to"])
        self.days = _days(matched["days"]) if matched["days"] else frozenset(range(7))

    def holds(self, moment: datetime) -> bool:
        """Tell whether the local time ``moment`` lies in the window."""
        day, now = moment.weekday(), moment.time().replace(tzinfo=None)
        if self.begin < self.end:
            return day in self.days and self.begin <= now < self.end
        # Over midnight: what began yesterday goes on this morning.
        yesterday = (moment - timedelta(days=1)).weekday()
        return (day in self.days and now >= self.begin) or (
            yesterday in self.days and now < self.end
        )


def zone_of(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no IANA time zone known here") from error


def _time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time of day") from None


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} names no days: write {', '.join(DAYS)}")
        begin = DAYS.index(first)
        span = (DAYS.index(last) - begin) % 7 if dash else 0
        found |= {(begin + step) % 7 for step in range(span + 1)}
    return frozenset(found)
