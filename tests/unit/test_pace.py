"""Verification reads no faster than agreed."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup_service.verification.pace import Pace
from shared.errors import Interrupted


class Waits(threading.Event):
    """A stop that nobody sets, and a clock that its waits move."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout <= 1.0
        self.now += timeout
        return self.is_set()

    def time(self) -> float:
        return self.now


@given(st.lists(st.integers(0, 1 << 20), max_size=50), st.integers(100_000, 10_000_000))
def test_what_was_read_is_never_ahead_of_the_rate(pieces: list[int], rate: int) -> None:
    waits = Waits()
    pace = Pace(rate, waits, waits.time)
    for piece in pieces:
        pace.read(piece)
    assert waits.now == pytest.approx(sum(pieces) / rate)


def test_a_stop_ends_the_wait() -> None:
    waits = Waits()
    pace = Pace(100_000, waits, waits.time)
    pace.read(0)
    waits.set()
    with pytest.raises(Interrupted):
        pace.read(1)
