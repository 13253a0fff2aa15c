"""Which events of a log make up the state at an offset, when restores lie on the way.

A state is the fold of stretches of the log, one after the other. Without a restore there is one,
from the beginning. After a restore it is what the restore's source was made of, and then what
follows R; after an undo, what led to the undone restore's F. Pure: no log is read here.

    spans = [Span(...), ...]                       # every fence of the log that opened, in order
    retrace(log, Base(S, epoch), spans, X)         # what to fold into the state of a backup at S
    retrace(log, BEGINNING, spans, X)              # ... into an empty one: the log is whole from 0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.instance.events import LogSource, Restored

LogName = tuple[str, str]


@dataclass(frozen=True)
class Span:
    """A fence: opened at F, closed at ``end`` (None: still open), by ``restored`` or an abort.

    Or, with ``adopted``, the adoption of this log at both offsets: no state is made from its
    beginning then.
    """

    restore_id: UUID
    fence_offset: int
    end: int | None
    restored: Restored | None
    adopted: bool = False


class Crossing(Exception):
    """The way leads across a restore whose state comes neither from the base nor from the log."""

    def __init__(self, span: Span) -> None:
        super().__init__(f"restore {span.restore_id} at offsets {span.fence_offset} to {span.end}")
        self.span = span


@dataclass(frozen=True)
class Base:
    """A state that is there already: everything before ``offset``, in ``epoch``."""

    offset: int
    epoch: int


@dataclass(frozen=True)
class Stretch:
    """The events of ``log[start .. end)`` that carry ``epoch``."""

    start: int
    end: int
    epoch: int


BEGINNING: Final = Base(0, 1)


def retrace(log: LogName, base: Base, spans: Sequence[Span], target: int) -> list[Stretch]:
    """Return what to fold into ``base`` for the state of the log before ``target``.

    ``log`` is (cluster id, topic id); ``spans`` are all fences at or behind ``base.offset``.
    Inside a fence the state stands still at F. Raises Crossing.
    """
    if base == BEGINNING:
        for span in spans:
            if span.adopted and span.fence_offset < target:
                raise Crossing(span)
    stretches: list[Stretch] = []
    # From the target back to the base: each restore on the way says where to go on.
    crossed: Span | None = None
    while True:
        target = _before_open_fence(spans, target)
        if target < base.offset:
            assert crossed is not None, "a target lies at its base or behind it"
            raise Crossing(crossed)
        last = _last_restored(spans, target)
        if last is None:
            stretches.append(Stretch(base.offset, target, base.epoch))
            return [s for s in reversed(stretches) if s.start < s.end]
        assert last.end is not None and last.restored is not None
        stretches.append(Stretch(last.end + 1, target, last.restored.epoch))
        crossed, target = last, _source_of(log, spans, last, last.restored)
        if target > last.fence_offset:
            # No genuine restore takes its state from behind its own fence.
            raise Crossing(last)


def _before_open_fence(spans: Sequence[Span], target: int) -> int:
    """Return F when ``target`` lies behind it and its end does not lie before ``target``."""
    for span in spans:
        if span.fence_offset < target and (span.end is None or target <= span.end):
            return span.fence_offset
    return target


def _last_restored(spans: Sequence[Span], target: int) -> Span | None:
    found = [
        span
        for span in spans
        if span.restored is not None and span.end is not None and span.end < target
    ]
    return found[-1] if found else None


def _source_of(log: LogName, spans: Sequence[Span], span: Span, restored: Restored) -> int:
    """Return the offset whose state a restore put here."""
    if restored.source is None and restored.undo_of is not None:
        undone = [s for s in spans if s.restore_id == restored.undo_of]
        if not undone:
            raise Crossing(span)
        return undone[0].fence_offset
    source: LogSource | None = restored.source
    if source is None or (source.cluster_id, source.topic_id) != log:
        raise Crossing(span)
    return source.position


def beyond(stretches: Sequence[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """Return what of ``stretches`` is in none of ``others``: the events that only one way has."""
    left: list[Stretch] = []
    for stretch in stretches:
        start = stretch.start
        for other in sorted(others, key=lambda other: other.start):
            if other.epoch != stretch.epoch or other.end <= start or other.start >= stretch.end:
                continue
            left.append(Stretch(start, other.start, stretch.epoch))
            start = other.end
        left.append(Stretch(start, stretch.end, stretch.epoch))
    return [s for s in left if s.start < s.end]
