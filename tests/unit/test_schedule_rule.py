"""The moments of a schedule against a model that looks at every minute; at clock changes above all."""

from __future__ import annotations

import calendar
import random
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_service.configuration.schedule import Schedule
from shared.errors import UsageError
from shared.standing.rule import Rule, read_expression
from shared.standing.zones import near_names, zone_names
from tests.plugins.hypothesis_profile import scaled

MINUTE = timedelta(minutes=1)
WINDOW = timedelta(hours=14)
# By an hour both ways, by half an hour, at midnight, by a whole day, never.
ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo",
    "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns", "UTC",
)  # fmt: skip
YEARS = (2011, 2016, 2024, 2026)


@cache
def changes(zone: str) -> list[datetime]:
    """Return when the clocks of ``zone`` change in the years, and the ends of some months."""
    info, found = ZoneInfo(zone), []
    for year in YEARS:
        at = datetime(year, 1, 1, tzinfo=UTC)
        while at.year == year:
            after = at + timedelta(hours=1)
            if at.astimezone(info).utcoffset() != after.astimezone(info).utcoffset():
                found.append(at)
            at = after
        found += [datetime(year, month, 28, tzinfo=UTC) for month in (2, 4, 12)]
    return found


@cache
def minutes(zone: str, start: datetime) -> tuple[list[datetime], list[datetime]]:
    """Return every minute of a window, and what the wall clock shows then."""
    info = ZoneInfo(zone)
    moments = [start + MINUTE * n for n in range(int(WINDOW / MINUTE))]
    return moments, [moment.astimezone(info).replace(tzinfo=None) for moment in moments]


class Model:
    """A cron expression as its manual describes it, field by field."""

    def __init__(self, chance: random.Random) -> None:
        self.fields = [
            self._field(chance, 0, 59, 3, star=0.02), self._field(chance, 0, 23, 3),
            self._field(chance, 1, 31, 2, star=0.6), self._field(chance, 1, 12, 8, star=0.8),
            self._field(chance, 0, 6, 3, star=0.6),
        ]  # fmt: skip

    @staticmethod
    def _field(
        chance: random.Random, low: int, high: int, most: int, star: float = 0.3
    ) -> tuple[str, frozenset[int]]:
        roll = chance.random()
        if roll < star:
            return "*", frozenset(range(low, high + 1))
        if roll < star + 0.15:
            step = chance.randint(2, 7) if high < 59 else chance.randint(9, 40)
            return f"*/{step}", frozenset(range(low, high + 1, step))
        if roll < star + 0.3:
            first = chance.randint(low, high)
            last = min(high, first + chance.randint(0, 6))
            return f"{first}-{last}", frozenset(range(first, last + 1))
        chosen = chance.sample(range(low, high + 1), chance.randint(1, most))
        return ",".join(map(str, chosen)), frozenset(chosen)

    @property
    def expression(self) -> str:
        return " ".join(text for text, _ in self.fields)

    def matches_day(self, wall: datetime) -> bool:
        (day_text, days), (_, months), (weekday_text, weekdays) = self.fields[2:]
        if wall.month not in months:
            return False
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        if day_text.startswith("*") or weekday_text.startswith("*"):
            return day and weekday
        return day or weekday

    def moments(self, zone: str, start: datetime) -> list[datetime]:
        moments, walls = minutes(zone, start)
        wanted_minutes, wanted_hours = self.fields[0][1], self.fields[1][1]
        if len(wanted_hours) == 24:
            return [
                moment for moment, wall in zip(moments, walls, strict=True)
                if wall.minute in wanted_minutes and self.matches_day(wall)
            ]  # fmt: skip
        found = set()
        hour, highest = walls[0].replace(minute=0), max(walls)
        while hour <= highest:
            if hour.hour in wanted_hours and self.matches_day(hour):
                for minute in wanted_minutes:
                    wall = hour.replace(minute=minute)
                    if walls[0] <= wall <= highest:
                        found.add(moments[first_at_or_behind(zone, start, wall)])
            hour += timedelta(hours=1)
        return sorted(found)


def first_at_or_behind(zone: str, start: datetime, wall: datetime) -> int:
    """Return the first minute at which the clock shows ``wall``, or has jumped over it."""
    return bisect_left(highest_yet(zone, start), wall)


@cache
def highest_yet(zone: str, start: datetime) -> list[datetime]:
    """Return for every minute of a window the latest that the clock has shown."""
    return list(accumulate(minutes(zone, start)[1], max))


@pytest.mark.parametrize("part", range(4))
@settings(max_examples=scaled(2_500))
@given(seed=st.integers(0, 2**62 - 1))
def test_an_expression_names_the_moments_that_its_manual_says(part: int, seed: int) -> None:
    # 10,000 in four parts, each with a time limit of its own.
    chance = random.Random(4 * seed + part)
    zone = chance.choice(ZONES)
    start = chance.choice(changes(zone)) - timedelta(hours=chance.choice((2, 6, 12)))
    model = Model(chance)
    rule = Rule(model.expression, ZoneInfo(zone))
    expected = model.moments(zone, start)
    end = start + WINDOW
    # The first minute of the window is behind nothing.
    found = list(takewhile(lambda at: at < end, rule.after(start - MINUTE)))
    assert found == expected, (model.expression, zone, start)
    some = start + MINUTE * chance.randrange(int(WINDOW / MINUTE))
    assert rule.last_until(some, start - MINUTE) == max(
        (moment for moment in expected if moment <= some), default=None
    )


def times(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(schedule.zone)
    moments = takewhile(lambda at: at < end, schedule.rule.after(start))
    return (moment.astimezone(zone) for moment in moments)


@pytest.mark.parametrize("zone", ZONES)
def test_a_daily_run_comes_once_on_every_day_that_there_is(zone: str) -> None:
    info = ZoneInfo(zone)
    for at in ("00:00", "02:15", "23:59"):
        schedule = Schedule(at=at, zone=zone)
        start = datetime(2010, 12, 31, 12, tzinfo=info)
        found = [when.date() for when in times(schedule, start, start + timedelta(days=800))]
        # The day that Samoa left out runs when it would have ended, with the next day's first.
        twice = 1 if zone == "Pacific/Apia" and at != "00:00" else 0
        assert len(found) - len(set(found)) == twice
        days = {start.date() + timedelta(days=n) for n in range(1, 800)}
        assert days - set(found) == (
            {datetime(2011, 12, 30).date()} if zone == "Pacific/Apia" else set()
        )


@pytest.mark.parametrize("day", [1, 28, 29, 30, 31])
def test_a_monthly_run_comes_once_a_month_on_its_day_or_the_last(day: int) -> None:
    schedule = Schedule(frequency="monthly", day=day, at="02:30", zone="Europe/Berlin")
    start = datetime(2023, 12, 31, 23, tzinfo=UTC)
    found = list(islice(times(schedule, start, datetime(2040, 1, 1, tzinfo=UTC)), 200))
    assert [(when.year, when.month) for when in found[:192]] == [
        (year, month) for year in range(2024, 2040) for month in range(1, 13)
    ]
    for when in found:
        assert when.day == min(day, calendar.monthrange(when.year, when.month)[1])


def test_a_leap_day_comes_when_it_is_there() -> None:
    rule = Rule(read_expression("0 12 29 2 *"), ZoneInfo("UTC"))
    found = [at.year for at in islice(rule.after(datetime(2090, 1, 1, tzinfo=UTC)), 4)]
    assert found == [2092, 2096, 2104, 2108]


def test_an_hourly_run_counts_real_hours() -> None:
    # Lord Howe's clocks change by half an hour: an hour of 90 real minutes, and one of 30.
    for zone, at, hours in (
        ("Europe/Berlin", "00:15", {1.0}),
        ("Australia/Lord_Howe", "00:15", {1.0, 1.5}),
        ("Australia/Lord_Howe", "00:45", {1.0, 0.5}),
    ):
        schedule = Schedule(frequency="hourly", at=at, zone=zone)
        moments = list(islice(schedule.rule.after(datetime(2026, 1, 1, tzinfo=UTC)), 8800))
        gaps = {(b - a) / timedelta(hours=1) for a, b in pairwise(moments)}
        assert gaps == hours


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"frequency": "cron", "cron": "0 0 2 * * *"}, "'0 2 * * *'"),
        ({"frequency": "cron", "cron": "@daily"}, "'0 2 * * *'"),
        ({"frequency": "cron", "cron": ""}, "this one has 0"),
        ({"frequency": "cron", "cron": "60 * * * *"}, "Bad minute"),
        ({"frequency": "cron", "cron": "0 0 31 2 *"}, "day-of-month"),
        ({"frequency": "cron", "cron": "* " * 200}, "200 characters"),
        ({"frequency": "cron", "cron": "0 0 5L/2 * *"}, "is no cron expression"),
        ({"frequency": "cron"}, "needs cron"),
        ({"frequency": "daily", "cron": "0 2 * * *"}, "'cron' as frequency"),
        ({"zone": "Berlin"}, "Europe/Berlin"),
        ({"zone": "Europe/Berln"}, "Europe/Berlin"),
        ({"zone": "../../etc/passwd"}, "Europe/Berlin or UTC"),
        ({"zone": "localtime"}, "no time zone"),
        ({"at": "2:00"}, "02:00"),
        ({"at": "24:00"}, "02:00"),
        ({"frequency": "weekly"}, "'sunday'"),
        ({"frequency": "monthly", "day": 32}, "31"),
        ({"after_events": 0}, "write 1 or more, or null"),
        ({"after_events": -5}, "write 1 or more, or null"),
        ({"jitter_s": -1}, "0"),
        ({"paused_until": "2026-12-24T10:00:00"}, "paused_until"),
        ({"recipients": ["age1pq1damaged"]}, "age1pq1damaged"),
        ({"frequncy": "daily"}, "frequncy"),
    ],
)
def test_what_is_wrong_is_refused_with_what_to_write(
    document: dict[str, object], says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Schedule.read(document)
    assert says in refused.value.message + refused.value.advice


@settings(max_examples=scaled(200))
@given(st.text("0123456789*/,-LW#MONSUN ?\u00b2", max_size=30))
def test_any_text_is_an_expression_or_refused_as_one(text: str) -> None:
    try:
        expression = read_expression(text)
    except ValueError:
        return
    assert next(Rule(expression, ZoneInfo("Europe/Berlin")).after(datetime(2026, 1, 1, tzinfo=UTC)))


def test_names_of_zones_that_are_near_are_named() -> None:
    assert near_names("europe/berlin") == ["Europe/Berlin"]
    assert near_names("New York") == ["America/New_York"]
    assert near_names("Quux/Zzyzx") == []
    assert {"UTC", "Europe/Berlin"} <= zone_names()
