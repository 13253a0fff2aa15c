"""The way to an offset against the model: what is folded along it is the state that the model has."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.instance.events import (
    FENCE_EVENTS,
    InstanceEvent,
    LogSource,
    ProjectCreated,
    RestoreAborted,
    Restored,
    RestoreStarted,
)
from shared.instance.fold import LoggedEvent
from shared.instance.history import ClosedAborted, ClosedRestored, FenceTracker, Opened
from shared.instance.retrace import BEGINNING, Base, Crossing, Span, Stretch, retrace
from tests.memorystore import MemoryStore
from tests.model import Model, differences
from tests.strategies import LOG, histories


def spans_of(history: list[LoggedEvent]) -> list[Span]:
    tracker, spans = FenceTracker(0), list[Span]()
    for logged in history:
        if not isinstance(logged.event, FENCE_EVENTS):
            continue
        verdict = tracker.see(logged.offset, logged.event)
        if isinstance(verdict, Opened):
            spans.append(Span(verdict.fence.restore_id, logged.offset, None, None))
        elif isinstance(verdict, ClosedAborted | ClosedRestored):
            restored = verdict.event if isinstance(verdict, ClosedRestored) else None
            last = spans.pop()
            spans.append(Span(last.restore_id, last.fence_offset, logged.offset, restored))
    return spans


def folded(store: MemoryStore, history: list[LoggedEvent], way: list[Stretch]) -> MemoryStore:
    for stretch in way:
        events = [e for e in history if stretch.start <= e.offset < stretch.end]
        store.apply(events, stretch.epoch)
    return store


@given(histories(restores=True), st.integers(0, 2**32))
def test_the_events_along_the_way_from_the_beginning_make_the_state(
    history: list[LoggedEvent], seed: int
) -> None:
    model = Model(LOG)
    model.apply_all(history)
    end = history[-1].offset + 1
    for target in {end, *Random(seed).choices(range(end + 1), k=4)}:
        way = retrace(LOG, BEGINNING, spans_of(history), target)
        found = folded(MemoryStore(), history, way)
        assert differences(model.at(target).tables(), found.rows) == []


@given(histories(restores=True), st.integers(0, 2**32))
def test_the_events_along_the_way_from_a_backup_make_the_state(
    history: list[LoggedEvent], seed: int
) -> None:
    model = Model(LOG)
    model.apply_all(history)
    end = history[-1].offset + 1
    rng = Random(seed)
    for start in rng.choices(range(end + 1), k=4):
        base = model.at(start)
        if base.fence is not None:
            # No backup is made behind a fence.
            continue
        behind = [span for span in spans_of(history) if span.fence_offset >= start]
        target = rng.randint(start, end)
        try:
            way = retrace(LOG, Base(start, base.epoch), behind, target)
        except Crossing as crossing:
            assert crossing.span in behind
            continue
        store = MemoryStore()
        store.rows.update(base.tables())
        found = folded(store, history, way)
        assert differences(model.at(target).tables(), found.rows) == []


def logged(events: list[InstanceEvent]) -> list[LoggedEvent]:
    moment, epoch = datetime(2026, 3, 1, tzinfo=UTC), 1
    found = []
    for offset, event in enumerate(events):
        found.append(LoggedEvent(offset, uuid4(), event.TYPE, moment, "tester", epoch, event))
        epoch = event.epoch if isinstance(event, Restored) else epoch
    return found


def project() -> ProjectCreated:
    return ProjectCreated(id=uuid4(), name=str(uuid4()))


def started(number: int) -> RestoreStarted:
    return RestoreStarted(restore_id=UUID(int=number), fence_no=number, backup_id=uuid4())


def restored(number: int, fence: int, source: int | None, undo_of: int | None = None) -> Restored:
    log = LogSource(cluster_id=LOG[0], topic_id=LOG[1], snapshot_offset=0, position=source or 0)
    return Restored(
        restore_id=UUID(int=number), fence_no=number, fence_offset=fence, epoch=number + 1,
        backup_id=uuid4(), source=None if source is None else log,
        undo_of=None if undo_of is None else UUID(int=undo_of),
    )  # fmt: skip


def test_the_way_leads_through_a_restore_the_undo_of_it_and_the_undo_of_the_undo() -> None:
    history = logged(
        [
            *(project(), project(), started(1), project(), restored(1, 2, 1), project()),
            *(started(2), restored(2, 6, None, undo_of=1), project()),
            *(started(3), restored(3, 9, None, undo_of=2), project()),
        ]
    )
    spans = spans_of(history)
    assert retrace(LOG, BEGINNING, spans, 6) == [Stretch(0, 1, 1), Stretch(5, 6, 2)]
    assert retrace(LOG, BEGINNING, spans, 9) == [Stretch(0, 2, 1), Stretch(8, 9, 3)]
    assert retrace(LOG, BEGINNING, spans, 12) == [
        *(Stretch(0, 1, 1), Stretch(5, 6, 2), Stretch(11, 12, 4))
    ]
    # From a backup made between the two restores the undone state cannot be had.
    assert retrace(LOG, Base(6, 2), spans[1:], 12) == [Stretch(11, 12, 4)]
    with pytest.raises(Crossing) as crossing:
        retrace(LOG, Base(6, 2), spans[1:], 9)
    assert crossing.value.span == spans[1]


def test_an_undo_that_could_not_bring_all_of_it_back_leads_to_where_it_says() -> None:
    history = logged(
        [
            *(project(), project(), project(), started(1), restored(1, 3, 1), project()),
            # Of what stood before F, at 3, it put back what stood before offset 2.
            *(started(2), restored(2, 6, 2, undo_of=1), project()),
        ]
    )
    assert retrace(LOG, BEGINNING, spans_of(history), 9) == [Stretch(0, 2, 1), Stretch(8, 9, 3)]
    model = Model(LOG)
    model.apply_all(history)
    found = folded(MemoryStore(), history, retrace(LOG, BEGINNING, spans_of(history), 9))
    assert differences(model.tables(), found.rows) == []
    # Put back from a log that is lost, it cannot be made of this one.
    with pytest.raises(Crossing):
        retrace(("another", "log"), BEGINNING, spans_of(history), 9)


def test_behind_a_fence_the_state_stands_still_until_it_is_aborted() -> None:
    aborted = RestoreAborted(restore_id=UUID(int=1), fence_no=1, reason="a test")
    history = logged([project(), started(1), project(), aborted, project()])
    spans = spans_of(history)
    for target, end in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 5)):
        assert retrace(LOG, BEGINNING, spans, target) == [Stretch(0, end, 1)]


@pytest.mark.parametrize("position", [3, 400])
def test_a_restore_from_another_log_or_from_behind_its_own_fence_is_no_way(position: int) -> None:
    history = logged([project(), started(1), project(), restored(1, 1, position), project()])
    with pytest.raises(Crossing):
        retrace(LOG, BEGINNING, spans_of(history), 5)
    with pytest.raises(Crossing):
        retrace(("another", "log"), BEGINNING, spans_of(history), 5)


def test_the_histories_lead_across_restores_often() -> None:
    """What the properties above are worth."""
    met: Counter[str] = Counter()

    @given(histories(restores=True))
    def look(history: list[LoggedEvent]) -> None:
        for span in spans_of(history):
            met["restored" if span.restored else "open" if span.end is None else "aborted"] += 1

    look()
    assert min(met["restored"], met["aborted"], met["open"]) > 5


def test_no_state_is_made_from_the_beginning_of_a_log_that_was_adopted() -> None:
    adopted = Span(UUID(int=1), 1, 1, None, adopted=True)
    with pytest.raises(Crossing):
        retrace(LOG, BEGINNING, [adopted], 5)
    assert retrace(LOG, BEGINNING, [adopted], 1) == [Stretch(0, 1, 1)]
    assert retrace(LOG, Base(1, 2), [adopted], 5) == [Stretch(1, 5, 2)]
