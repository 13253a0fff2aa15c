"""The moments that a rule of wall-clock time names: right across changes of the clocks.

``cronsim`` knows which wall-clock times match an expression. Which moments those are is decided
here, once for expressions and frequencies alike:

- A rule for every hour counts real hours: none is left out and none comes twice.
- Any other rule runs once for each matching time of a wall clock. A time that the clocks skip runs
  at the end of the gap, several of them together once; a time that comes twice runs the first time.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

FIELDS = "minute hour day-of-month month day-of-week"
_MAX_CHARS = 200
_HOURS = 24
# No zone of this century shows the same for longer than an hour twice.
_LONGEST_REPEAT = timedelta(hours=3)
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True)
class Rule:
    """A cron expression of five fields, read on the wall clocks of ``zone``.

    ``month_day`` (29 to 31) leaves of the days 28 to 31 that one, or the month's last where it is
    shorter.
    """

    expression: str
    zone: ZoneInfo
    month_day: int | None = None

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the moments behind ``moment``, in UTC, each later than the one before."""
        last = moment
        for found in self._candidates(moment.astimezone(self.zone)):
            if found > last:
                last = found
                yield found

    def last_until(self, moment: datetime, behind: datetime) -> datetime | None:
        """Return the last moment up to ``moment`` and behind ``behind``, or None."""
        first = next(self.after(behind), None)
        if first is None or first > moment:
            return None
        reach = _HOUR
        while True:
            # Nothing looks back: it is looked for from further and further away.
            found = None
            for one in self.after(max(behind, moment - reach)):
                if one > moment:
                    break
                found = one
            if found is not None:
                return found
            reach *= 4

    def _candidates(self, local: datetime) -> Iterator[datetime]:
        # Without a zone the library goes by wall clocks alone.
        start = local.replace(tzinfo=None)
        if _is_for_every_hour(self.expression):
            # Times that have been for the first time may come for the second.
            yield from _real_hours(CronSim(self.expression, start - _LONGEST_REPEAT), self.zone)
            return
        for wall in CronSim(self.expression, start):
            if self.month_day is None or _is_month_day(wall, self.month_day):
                yield _first_moment(wall, self.zone)


def read_expression(text: str) -> str:
    """Return a cron expression of five fields. Raises ValueError, saying what to write."""
    fields = text.split()
    if len(text) > _MAX_CHARS:
        raise ValueError(f"a cron expression has at most {_MAX_CHARS} characters")
    if len(fields) == 6:
        raise ValueError(
            f"a cron expression has five fields ({FIELDS}), and this one has six: without the "
            f"seconds it is {' '.join(fields[1:])!r}"
        )
    if len(fields) != 5:
        raise ValueError(
            f"a cron expression has five fields ({FIELDS}), and this one has {len(fields)}: write "
            "'0 2 * * *' for every day at 02:00"
        )
    expression = " ".join(fields)
    try:
        # 2000 is a leap year, and the library looks half a century ahead.
        next(CronSim(expression, datetime(2000, 1, 1)))
    except CronSimError as error:
        raise ValueError(
            f"{expression!r} is no cron expression: {error}. Its fields are {FIELDS}, as in "
            "'30 2 * * MON-FRI'"
        ) from None
    except StopIteration:
        raise ValueError(f"{expression!r} names no day that there is") from None
    return expression


@lru_cache(maxsize=64)
def _is_for_every_hour(expression: str) -> bool:
    return len(CronSim(expression, datetime(2000, 1, 1)).hours) == _HOURS


def _is_month_day(wall: datetime, day: int) -> bool:
    return wall.day == min(day, calendar.monthrange(wall.year, wall.month)[1])


def _first_moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return when a wall clock first shows ``wall``, or has jumped over it."""
    while not (moments := _moments(wall, zone)):
        wall += _MINUTE
    return moments[0]


def _real_hours(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Yield every moment at which a wall clock shows one of ``walls``, in order."""
    second: list[datetime] = []
    for wall in walls:
        moments = _moments(wall, zone)
        while second and moments and second[0] < moments[0]:
            yield second.pop(0)
        yield from moments[:1]
        second += moments[1:]


def _moments(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return when a wall clock shows ``wall``: once, twice, or never."""
    before, after = (wall.replace(tzinfo=zone, fold=n).astimezone(UTC) for n in (0, 1))
    # PEP 495: in a gap it is the other way round.
    return [before] if before == after else [before, after] if before < after else []
