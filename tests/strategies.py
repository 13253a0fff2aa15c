"""Random histories of an instance: mostly sensible, often contradicting, never dull.

    @given(histories())
    def test_it(history: list[LoggedEvent]): ...

A step is one kind of event and one number; everything else in the event follows from the number
and from what the history has made so far. So hundreds of histories take a second, and a failing
one shrinks to few steps.
"""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Final
from uuid import UUID

from hypothesis import strategies as st

from shared.instance import events as ev
from shared.instance.fold import LoggedEvent
from tests.makers import CREATORS, MAKERS, World
from tests.model import Model

Step = tuple[type[ev.InstanceEvent], int]
LOG: Final = ("cluster", "topic")
# What creates comes more often than what changes, or histories die out.
_KINDS: Final = [*MAKERS, *CREATORS, *CREATORS]
_RESTORES: Final = [*_KINDS, *ev.FENCE_EVENTS * 5]
_SEEDS: Final = st.integers(0, 2**32 - 1)


_KIND: Final[st.SearchStrategy[type[ev.InstanceEvent]]] = st.sampled_from(_KINDS)
_KIND_OR_RESTORE: Final[st.SearchStrategy[type[ev.InstanceEvent]]] = st.sampled_from(_RESTORES)


def histories(
    *, max_events: int = 60, restores: bool = False, gaps: bool = True
) -> st.SearchStrategy[list[LoggedEvent]]:
    """Return histories of one log, from offset 0 or, with ``gaps``, from somewhere near.

    ``restores`` adds fences, their ends, and ends that fit no fence. ``gaps`` leaves out offsets,
    as transaction markers do.
    """
    step = st.tuples(_KIND_OR_RESTORE if restores else _KIND, _SEEDS)
    room = max_events - len(FOUNDING)
    # Lists of a size by itself are short: most of what goes wrong needs a past.
    steps = st.one_of(
        st.lists(step, min_size=1, max_size=min(12, max_events)),
        st.lists(step, min_size=room // 3, max_size=room).map(_founded),
        st.lists(step, min_size=room * 2 // 3, max_size=room).map(_founded),
    )
    return steps.map(lambda found: build(found, gaps=gaps))


def cuts(max_events: int = 60) -> st.SearchStrategy[list[int]]:
    """Return the sizes of the batches that a history is read in, to be repeated."""
    return st.lists(st.integers(1, max_events), min_size=1, max_size=12)


def batches(history: list[LoggedEvent], sizes: list[int]) -> list[list[LoggedEvent]]:
    """Cut ``history`` into batches of ``sizes``, again and again until it is used up."""
    found: list[list[LoggedEvent]] = []
    begin = 0
    while begin < len(history):
        size = sizes[len(found) % len(sizes)]
        found.append(history[begin : begin + size])
        begin += size
    return found


def build(steps: list[Step], *, gaps: bool = True) -> list[LoggedEvent]:
    """Return the history that ``steps`` make."""
    world = World(LOG)
    offset = 0
    for number, (cls, seed) in enumerate(steps):
        rng = Random(f"{seed}/{cls.__name__}")
        if gaps and rng.random() < 0.2:
            offset += rng.randint(1, 4)
        event = MAKERS[cls](world, rng) if cls in MAKERS else world.restore_event(offset, cls, rng)
        world.add(
            LoggedEvent(
                offset=offset,
                event_id=UUID(int=(0xE << 64) | number),
                type=event.TYPE,
                time=world.time(rng),
                actor=world.actor(rng),
                epoch=world.epoch(rng),
                event=event,
            )
        )
        offset += 1
    return world.history


def seeded(number: int, max_events: int = 60) -> list[LoggedEvent]:
    """Return history ``number``: the same one always and everywhere, for surveys."""
    rng = Random(f"history {number}")
    room = max_events - len(FOUNDING)
    return build(_founded([(rng.choice(_KINDS), rng.getrandbits(32)) for _ in range(room)]))


def _founded(steps: list[Step]) -> list[Step]:
    return FOUNDING + steps


def _founding() -> list[Step]:
    steps: list[Step] = []
    for cls in CREATORS:
        seeds = (seed for seed in count() if _all_applied([*steps, (cls, seed)]))
        steps.append((cls, next(seeds)))
    return steps


def _all_applied(steps: list[Step]) -> bool:
    model = Model(LOG)
    model.apply_all(build(steps))
    return model.applied == len(steps)


# One of each thing, so that what follows has something to meet.
FOUNDING: Final = _founding()
