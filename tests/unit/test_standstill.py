"""A store stands still when it did not move for so long while the log had more for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backup_service.standstill import STILL_AFTER_S, Standstill
from shared.instance.position import LogPosition, first_position

HERE = replace(first_position("cluster", "topic"), position=7)


class Hand:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand() -> Hand:
    return Hand()


def test_what_does_not_move_for_so_long_stands_still(hand: Hand) -> None:
    standstill = Standstill(hand)
    for passed in (0.0, 1.0, STILL_AFTER_S - 0.1):
        assert not standstill.note(HERE, 1000.0 + passed)
    assert standstill.note(HERE, 1000.0 + STILL_AFTER_S)
    assert standstill.note(HERE, 1000.0 + 99 * STILL_AFTER_S)


@pytest.mark.parametrize(
    "there",
    [
        None,
        replace(HERE, position=8),
        replace(HERE, epoch=2),
        replace(HERE, topic_id="another log"),
    ],
    ids=["in step", "moved on", "restored", "another log"],
)
def test_what_moved_between_two_looks_does_not(hand: Hand, there: LogPosition | None) -> None:
    standstill = Standstill(hand)
    standstill.note(HERE, hand.at)
    hand.at += STILL_AFTER_S - 1
    assert not standstill.note(there, hand.at)
    hand.at += STILL_AFTER_S - 1
    for place in (HERE, there):
        assert not standstill.note(place, hand.at)


def test_a_look_that_waits_long_for_the_log_is_no_standstill(hand: Hand) -> None:
    """Between the reading of the position and the answer of Kafka the store may have gone on."""
    standstill = Standstill(hand)
    read_at = hand.at
    hand.at += 2 * STILL_AFTER_S
    assert not standstill.note(HERE, read_at), "it is known to be behind since now"
    assert not standstill.note(HERE, read_at + 1), "a look that began before the other was over"
    hand.at += 2 * STILL_AFTER_S
    assert not standstill.note(HERE, read_at + 3 * STILL_AFTER_S - 0.1)
    assert standstill.note(HERE, read_at + 3 * STILL_AFTER_S)
