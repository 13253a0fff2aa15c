"""Spans of calendar time such as ``1y6m``, as restic writes and reckons them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from shared.errors import UsageError

_SPAN = re.compile(r"(?:(\d{1,4})y)?(?:(\d{1,5})m)?(?:(\d{1,6})d)?(?:(\d{1,7})h)?", re.ASCII)


@dataclass(frozen=True)
class Span:
    """A span of years, months, days and hours."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1y6m``, ``14d``, ``36h``. Raises UsageError, saying what to write."""
        matched = _SPAN.fullmatch(text)
        numbers = [int(found or 0) for found in matched.groups()] if matched else [0]
        if not any(numbers):
            raise UsageError(
                f"{text[:40]!r} is no span of time",
                hint="Write years, months, days and hours in this order: 14d, 36h, 1y6m, 2m15d.",
            )
        return cls(*numbers)

    def before(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return the moment that lies this span before ``moment``, by the calendar of ``zone``.

        A day that the month does not have runs over into the next one, as in restic: a month
        before 31 March is 3 March. What lies before all time is the beginning of time.
        """
        local = moment.astimezone(zone)
        months = local.year * 12 + local.month - 1 - self.years * 12 - self.months
        year, month = divmod(months, 12)
        try:
            first = local.replace(year=year, month=month + 1, day=1, fold=0)
            over = timedelta(days=local.day - 1 - self.days)
            return (first + over).astimezone(UTC) - timedelta(hours=self.hours)
        except (ValueError, OverflowError):
            return datetime.min.replace(tzinfo=UTC)
