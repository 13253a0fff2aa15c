"""Retention: what the rules decide, against brute force; which rules are refused."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup_service.retention.evaluate import (
    Candidate,
    Rule,
    evaluate,
    evaluate_unconfirmed,
    would_purge_all,
)
from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.span import Span
from backup_service.retention.standing import Standing, counts, standing_of
from shared.errors import RetentionRefused, UsageError
from tests.model.retention import rule_of, span_before
from tests.plugins.hypothesis_profile import scaled

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia")
SPANS = ("1h", "36h", "1d", "14d", "1m", "2m15d", "1y", "1y2m3d4h")
STEPS = (
    timedelta(minutes=7), timedelta(minutes=50), timedelta(hours=5), timedelta(hours=24),
    timedelta(days=3), timedelta(days=20), timedelta(days=200), timedelta(0),
)  # fmt: skip
NEEDED = (Rule.HELD, Rule.IN_USE, Rule.UNDO_WINDOW)


def a_policy(rng: random.Random) -> RetentionPolicy:
    def perhaps(value: Any) -> Any:
        return value if rng.random() < 0.35 else None

    return RetentionPolicy.model_construct(
        keep_last=perhaps(rng.randint(1, 6)),
        older_than_days=perhaps(rng.choice([1, 7, 30, 400])),
        keep_within=perhaps(rng.choice(SPANS)),
        **{
            f"keep_{name}": perhaps(rng.randint(1, 4))
            for name in ("hourly", "daily", "weekly", "monthly", "yearly")
        },
        zone=rng.choice(ZONES),
    )


def some_backups(rng: random.Random) -> tuple[datetime, list[Candidate]]:
    """Return a moment and backups before it (and a little after it), some at the same time."""
    taken_at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(1_100_000))
    now = taken_at - rng.choice([timedelta(0), timedelta(0), timedelta(hours=3)])
    found = []
    steps = rng.choice([STEPS, STEPS[:4], STEPS[2:6]])
    for number in range(rng.randrange(9)):
        taken_at -= rng.choice(steps)
        standing = rng.choice(list(Standing)) if rng.random() < 0.3 else Standing.COUNTS
        needed = rng.choice(NEEDED) if rng.random() < 0.1 else None
        found.append(Candidate(f"b{rng.randrange(100)}-{number}", taken_at, standing, needed))
    rng.shuffle(found)
    return now, found


# Ten cases an example: most of an example's time is not ours.
@settings(max_examples=scaled(1000))
@given(seed=st.integers(0, 2**64))
def test_ten_thousand_verdicts_are_those_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        policy, (now, backups) = a_policy(rng), some_backups(rng)
        found = evaluate(policy, backups, now)
        assert {v.backup: (v.purge, str(v.rule)) for v in found} == {
            one: rule_of(policy, backups, one, now) for one in backups
        }


@settings(max_examples=scaled(500))
@given(seed=st.integers(0, 2**64))
def test_until_a_restore_is_confirmed_only_what_both_settings_purge_is_purged(seed: int) -> None:
    rng = random.Random(seed)
    before, after, (now, backups) = a_policy(rng), a_policy(rng), some_backups(rng)

    def purged(policy: RetentionPolicy) -> set[Candidate]:
        return {v.backup for v in evaluate(policy, backups, now) if v.purge}

    found = evaluate_unconfirmed(before, after, backups, now)
    assert {v.backup for v in found if v.purge} == purged(before) & purged(after)
    assert {v.backup for v in found if v.rule is Rule.UNCONFIRMED} == purged(after) - purged(before)


@settings(max_examples=scaled(300))
@given(seed=st.integers(0, 2**64))
def test_whatever_the_rules_the_newest_that_counts_and_the_needed_stay(seed: int) -> None:
    rng = random.Random(seed)
    policy, (now, backups) = a_policy(rng), some_backups(rng)
    kept = {v.backup for v in evaluate(policy, backups, now) if not v.purge}
    counting = [one for one in backups if one.standing is Standing.COUNTS]
    assert not counting or max(counting, key=lambda one: (one.taken_at, one.backup_id)) in kept
    assert {one for one in backups if one.needed is not None} <= kept


@settings(max_examples=scaled(500))
@given(
    moment=st.datetimes(datetime(2000, 1, 1), datetime(2050, 1, 1)),
    zone=st.sampled_from(ZONES),
    span=st.sampled_from(SPANS),
)
def test_a_span_reaches_back_by_the_calendar(moment: datetime, zone: str, span: str) -> None:
    at, where = moment.replace(tzinfo=UTC), ZoneInfo(zone)
    assert Span.parse(span).before(at, where) == span_before(span, at, where)


def test_a_span_longer_than_all_time_protects_everything() -> None:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    assert Span.parse("9999y").before(now, ZoneInfo("UTC")).year == 1
    assert Span.parse("999999d").before(now, ZoneInfo("UTC")).year == 1


@pytest.mark.parametrize("text", ["", "0d", "7", "d7", "1d2d", "3h1d", "-1d", "1w", "1 d", "１d"])
def test_a_span_that_is_none_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Span.parse(text)
    assert "14d, 36h, 1y6m" in refused.value.advice


@pytest.mark.parametrize(
    ("rules", "said", "write"),
    [
        ({"keep_last": 0}, "keep_last", "keep_last: 14"),
        ({"keep_last": -1}, "keep_last", "from 1 on"),
        ({"keep_last": True}, "keep_last", "whole number"),
        ({"keep_last": "3"}, "keep_last", "whole number"),
        ({"keep_last": 1.5}, "keep_last", "whole number"),
        ({"older_than_days": 0}, "older_than_days", "older_than_days: 90"),
        ({"older_than_days": -30}, "older_than_days", "from 1 on"),
        ({"older_than_days": 10**9}, "older_than_days", "older_than_days: 90"),
        ({"keep_last": 1, "keep_daily": 0}, "keep_daily", "keep_daily: 7"),
        ({"keep_last": 1, "keep_yearly": -2}, "keep_yearly", "from 1 on"),
        ({"keep_last": 1, "keep_within": "soon"}, "keep_within", "14d, 36h, 1y6m"),
        ({"keep_last": 1, "zone": "Berlin"}, "zone", "Europe/Berlin"),
        ({"keep_last": 1, "zone": "../../etc/passwd"}, "zone", "Europe/Berlin"),
        ({"keep_daily": 7}, "without a limit nothing is ever purged", "keep_last: 1"),
        ({"keep_forever": 1}, "keep_forever", "keep_last"),
        ([], "", "keep_last"),
    ],
)
def test_a_bad_rule_is_refused_with_what_to_write_instead(
    rules: Any, said: str, write: str
) -> None:
    with pytest.raises(RetentionRefused) as refused:
        RetentionPolicy.read(rules)
    assert said in refused.value.message
    assert write in refused.value.advice


def test_rules_that_would_leave_nothing_that_counts_are_known() -> None:
    now = datetime(2026, 3, 31, tzinfo=UTC)
    old = [Candidate(f"b{n}", now - timedelta(days=40 + n), Standing.COUNTS) for n in range(3)]
    young = Candidate("waits", now, Standing.KEY_WAITS)
    by_age = RetentionPolicy(older_than_days=39)
    assert would_purge_all(by_age, [*old, young], now)
    assert not would_purge_all(by_age, [young], now)
    assert not would_purge_all(RetentionPolicy(older_than_days=41), old, now)
    assert not would_purge_all(RetentionPolicy(older_than_days=39, keep_daily=1), old, now)


def a_backup(key_state: str, **facts: Any) -> dict[str, Any]:
    return {"state": "created", "key_state": key_state, "rehearsal": None} | facts


LOST = {"intact": False, "code": "storage.not_found"}
UNSEEN = {"intact": False, "code": "unavailable"}


@pytest.mark.parametrize(
    ("backup", "standing"),
    [
        (a_backup("viewed"), Standing.COUNTS),
        (a_backup("own_recipient"), Standing.COUNTS),
        (a_backup("waiting"), Standing.KEY_WAITS),
        (a_backup("expired"), Standing.KEY_EXPIRED),
        (a_backup("gone"), Standing.KEY_UNKNOWN),
        (a_backup("gone", rehearsal={"outcome": "restorable"}), Standing.COUNTS),
        (a_backup("gone", rehearsal={"outcome": "failed"}), Standing.KEY_UNKNOWN),
        (a_backup("viewed", last_verification=LOST), Standing.DAMAGED),
        (a_backup("viewed", last_verification=UNSEEN), Standing.COUNTS),
        (a_backup("viewed", last_verification={"intact": True, "code": None}), Standing.COUNTS),
    ],
)
def test_a_backup_counts_when_it_is_proven_and_somebody_can_open_it(
    backup: dict[str, Any], standing: Standing
) -> None:
    assert standing_of(backup) is standing
    assert counts(backup) is (standing is Standing.COUNTS)
    assert not counts(backup | {"state": "purged"})
