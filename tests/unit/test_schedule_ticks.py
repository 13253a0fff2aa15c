"""Ticks over time: services that stop and start, clocks that jump, delays; against a plain model."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backup_service.configuration.schedule import Schedule
from shared.standing.ticks import LATE, Tick, delayed, find_due, next_runs
from tests.plugins.hypothesis_profile import scaled

SEED = "9c7d1c0a"
START = datetime(2026, 3, 27, 12, tzinfo=UTC)


def any_schedule(chance: random.Random) -> Schedule:
    zone = chance.choice(("Europe/Berlin", "UTC", "Australia/Lord_Howe"))
    jitter_s = chance.choice((0, 0, 90, 1200, 6 * 3600))
    cron = chance.choice(("*/15 * * * *", "*/7 1-3 * * *", "0,30 * * * *", "0 2 * * SUN"))
    common: dict[str, Any] = {"enabled": True, "zone": zone, "jitter_s": jitter_s}
    return chance.choice(
        (
            Schedule(frequency="hourly", at="00:30", **common),
            Schedule(frequency="daily", at="02:30", **common),
            Schedule(frequency="cron", cron=cron, **common),
        )
    )


def ticks_between(schedule: Schedule, behind: datetime, until: datetime) -> list[datetime]:
    return list(takewhile(lambda at: at <= until, schedule.rule.after(behind)))


@settings(max_examples=scaled(200))
@given(st.integers(0, 2**64 - 1))
def test_no_tick_is_lost_or_doubled_whenever_the_service_runs(seed: int) -> None:
    chance = random.Random(seed)
    schedule = any_schedule(chance)
    now = behind = START
    decided: list[datetime] = []
    for _ in range(12):
        # Polled while it runs, or down for a while: both end with a look.
        step = chance.choice((20, 240, 1700, 4000, 40_000, 200_000))
        before, now = now, now + timedelta(seconds=chance.randint(1, step))
        due = find_due(schedule, SEED, now, behind)
        ticks = [delayed(schedule, SEED, at) for at in ticks_between(schedule, behind, now)]
        expected = [tick for tick in ticks if tick.due_at <= now]
        if due is None:
            assert expected == []
            continue
        assert due.tick == expected[-1]
        assert due.missed == len(expected) - 1
        assert due.late == (now - due.tick.due_at > LATE)
        # What was due at the look before was decided then.
        assert all(tick.due_at > before for tick in expected)
        decided.append(due.tick.at)
        behind = due.tick.at
    assert decided == sorted(set(decided))


@settings(max_examples=scaled(100))
@given(st.integers(0, 2**64 - 1))
def test_a_delay_is_the_same_for_all_within_its_bound_and_never_reaches_the_next_run(
    seed: int,
) -> None:
    schedule = any_schedule(random.Random(seed))
    ats = list(islice(schedule.rule.after(START), 12))
    ticks = [delayed(schedule, SEED, at) for at in ats]
    assert ticks == [delayed(schedule, SEED, at) for at in ats]
    for tick, following in zip(ticks, ats[1:], strict=False):
        assert 0 <= (tick.due_at - tick.at).total_seconds() <= schedule.jitter_s
        assert tick.due_at < following
    assert list(islice(next_runs(schedule, SEED, START, START), 10)) == ticks[:10]


def test_delays_of_two_instances_differ() -> None:
    schedule = Schedule(enabled=True, jitter_s=3600)
    at = next(schedule.rule.after(START))
    found = {delayed(schedule, f"instance {n}", at).due_at for n in range(20)}
    assert len(found) > 15


def test_nothing_is_due_while_it_is_off_or_paused_and_the_end_of_a_pause_runs() -> None:
    schedule = Schedule(enabled=True, frequency="hourly", at="00:00")
    later = START + timedelta(hours=5)
    assert find_due(schedule.model_copy(update={"enabled": False}), SEED, later, START) is None
    assert list(next_runs(Schedule(), SEED, START, START)) == []
    paused = schedule.model_copy(update={"paused_until": later})
    assert find_due(paused, SEED, later - timedelta(minutes=1), START) is None
    due = find_due(paused, SEED, later, START)
    assert due is not None
    assert (due.tick, due.missed) == (Tick(later, later), 0)
    assert next(next_runs(paused, SEED, START, START)).at == later


def test_a_date_pauses_until_it_begins_in_its_zone() -> None:
    document = {"zone": "Europe/Berlin", "paused_until": "2026-12-24"}
    assert Schedule.read(document).resumes_at == datetime(2026, 12, 23, 23, tzinfo=UTC)


def test_a_year_of_missed_minutes_is_found_at_once() -> None:
    schedule = Schedule(enabled=True, frequency="cron", cron="* * * * *")
    due = find_due(schedule, SEED, START + timedelta(days=366), START)
    assert due is not None
    assert (due.tick.at, due.missed) == (START + timedelta(days=366), 1000)


def test_a_clock_that_goes_back_makes_nothing_due() -> None:
    schedule = Schedule(enabled=True, frequency="hourly")
    assert find_due(schedule, SEED, START - timedelta(minutes=50), START) is None
