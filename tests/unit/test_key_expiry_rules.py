"""When a key is warned of and when it expires, whatever looks come at whatever times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_service.history.query import KeyState
from backup_service.keys.expiry import (
    WARNINGS_S,
    Wait,
    due_warnings,
    expires_after,
    is_newest,
    is_over,
    warnings_within,
)
from cli.keystate import told_key

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
DAY_S = 24 * 3600


def wait_of(lifetime_s: int, number: int = 0) -> Wait:
    expires_at = BEGIN + timedelta(seconds=lifetime_s)
    return Wait(UUID(int=number), BEGIN, expires_at, warnings_within(lifetime_s))


def test_a_life_shorter_than_a_warning_has_none_of_it() -> None:
    assert warnings_within(7 * DAY_S) == WARNINGS_S == (48 * 3600, 6 * 3600)
    assert warnings_within(48 * 3600) == (6 * 3600,)
    assert warnings_within(6 * 3600) == ()


@given(
    st.integers(60, 366 * DAY_S),
    st.lists(st.integers(-DAY_S, 400 * DAY_S), min_size=1, max_size=30),
)
def test_every_warning_once_then_half_a_warning_at_least_then_the_end(
    lifetime_s: int, looks: list[int]
) -> None:
    wait, given_at, over = wait_of(lifetime_s), {}, None
    for look in looks:
        now = BEGIN + timedelta(seconds=look)
        due = due_warnings(wait, now)
        for lead_s in due:
            assert lead_s not in given_at
            assert now >= wait.expires_at - timedelta(seconds=lead_s)
            given_at[lead_s] = now
        left = tuple(lead_s for lead_s in wait.warnings_s if lead_s not in due)
        wait = replace(wait, expires_at=expires_after(wait, due, now), warnings_s=left)
        if not due and is_over(wait, now):
            over = now
            break
    if over is not None:
        assert over >= BEGIN + timedelta(seconds=lifetime_s)
        assert set(given_at) == set(warnings_within(lifetime_s))
        if given_at:
            last_s = min(given_at)
            assert over - given_at[last_s] >= timedelta(seconds=last_s // 2)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_of_all_that_wait_one_is_the_newest(ages: list[int]) -> None:
    waiting = [
        replace(wait_of(DAY_S, number), since=BEGIN + timedelta(days=age))
        for number, age in enumerate(ages)
    ]
    newest = [wait for wait in waiting if is_newest(wait, waiting)]
    assert len(newest) == 1
    assert newest[0].since == max(wait.since for wait in waiting)


def test_a_person_reads_who_can_open_a_backup() -> None:
    waiting = {"key_state": "waiting", "key_expires_at": "2026-12-01"}
    assert told_key(waiting) == "key waits until 2026-12-01"
    own = {"key_state": "own_recipient", "recipients": ["SHA256:a", "SHA256:b"]}
    assert told_key(own) == "for SHA256:a, SHA256:b"
    expired = {"key_state": "expired", "key_expired_at": "2026-12-01"}
    assert "nobody can open it" in told_key(expired)
    assert told_key({"key_state": None}) == "-"


@pytest.mark.parametrize("state", list(KeyState))
def test_every_state_of_a_key_has_its_words(state: KeyState) -> None:
    backup = {
        "key_state": state.value, "recipients": ["SHA256:a"], "key_viewed_by": "anna",
        "key_viewed_at": "2026-12-01", "key_expired_at": "2026-12-01", "key_expires_at": None,
    }  # fmt: skip
    assert told_key(backup) != "-"
