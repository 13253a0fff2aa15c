"""The fold by itself: events into rows in memory, in batches as the projector folds them."""

from __future__ import annotations

from bench.figure import Figure, best_of, measured
from bench.machine import Machine
from shared.instance.fold import LoggedEvent, fold, needs_of
from shared.instance.sample.generator import sample
from shared.instance.workingset import WorkingSet
from shared.instance.writer import NewEvent

COPIES = 10


def run(_: Machine) -> list[Figure]:
    """Fold whole copies of the sample, each of which refers to itself alone."""
    batches = [_batch(copy) for copy in range(COPIES)]
    return [Figure("fold, pure", best_of(3, lambda: _fold(batches)), "events/s")]


def _batch(copy: int) -> list[LoggedEvent]:
    events = sample(1, 1, lambda value, *_: value, first_copy=copy)
    return [_logged(offset, new) for offset, new in enumerate(events)]


def _logged(offset: int, new: NewEvent) -> LoggedEvent:
    assert new.event_id is not None
    assert new.time is not None
    return LoggedEvent(offset, new.event_id, new.event.TYPE, new.time, "bench", 1, new.event)


def _fold(batches: list[list[LoggedEvent]]) -> float:
    with measured() as watch:
        for batch in batches:
            working = WorkingSet()
            working.load(needs_of(batch), {})
            result = fold(working, batch, 1)
            assert result.applied == len(batch), "the sample does not contradict itself"
    return watch.rate(sum(map(len, batches)))
