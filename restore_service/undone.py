"""What a restore would undo: the events that led to the present state and not to the restored one.

They are counted in one reading of the log, by their headers alone, between places at which a way
may begin or end. Where a restore on the log took its state from a place in between, the log is read
once more with that place among them. Memory is that of the counters.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from restore_service.access import ACCESS_TYPES
from restore_service.rollforward import PresentLog, crosses_restore
from shared.errors import LogLost, MessageUnreadable
from shared.instance.fold import LoggedEvent
from shared.instance.reading import read_record
from shared.instance.replay import check_whole
from shared.instance.retrace import BEGINNING, Base, Crossing, Span, Stretch, beyond, retrace
from shared.instance.subject import MOST_ACTORS, OTHERS, UNKNOWN, kind_of, subject_of
from shared.kafka import Record

_MAX_ACTOR_BYTES: Final = 1020
# Where on the log there are events of some kind at all, so many offsets at a time.
BLOCK_OFFSETS: Final = 4096
_WINDOW, _WIDEST_WINDOW = 500, 20_000

Counts = Counter[tuple[bytes, bytes]]


class Tally:
    """The events of a log by type and actor, between cuts; a watcher of ``PresentLog.spans``."""

    def __init__(self, base: Base, cuts: Collection[int]) -> None:
        self._base = base
        self._cuts = sorted(cuts)
        self._actors: set[bytes] = set()
        self._edges: set[int] = set()
        self._segments: list[tuple[int, Counts]] = []
        self._waiting: deque[int] = deque()
        self._counts: Counts = Counter()
        self._epoch = b""
        self.access_blocks: set[int] = set()

    def begin(self, start: int) -> None:
        """Begin, perhaps anew, at offset ``start``."""
        self._segments = []
        self._edges = {start, *self._cuts}
        self._waiting = deque(cut for cut in self._cuts if cut > start)
        # Before the base only fences are of interest: no event there is counted.
        self._epoch = b""
        self._open(start)

    def see(self, record: Record) -> None:
        """Count a record if it is of the epoch that the log is in."""
        self._pass(record.offset)
        headers = dict(record.headers)
        if not self._present(headers.get("ce_epoch", b"")):
            return
        key = headers.get("ce_type", b""), headers.get("ce_actor", b"")
        if key[0] in ACCESS_TYPES:
            self.access_blocks.add(record.offset // BLOCK_OFFSETS)
        if key not in self._counts:
            key = self._bounded(*key)
        self._counts[key] += 1

    def cut(self, offset: int, spans: Sequence[Span]) -> None:
        """Begin anew behind a restore event: states begin and end there."""
        self._pass(offset)
        self._edges |= {offset, offset + 1}
        self._open(offset + 1)
        last = spans[-1] if spans else None
        if last is not None and last.end == offset and last.restored is not None:
            self._epoch = str(last.restored.epoch).encode("ascii")

    def missing(self, stretches: Sequence[Stretch]) -> set[int]:
        """Return where ``stretches`` begin or end and this was not cut."""
        return {edge for s in stretches for edge in (s.start, s.end)} - self._edges

    def of(self, stretches: Sequence[Stretch]) -> Counts:
        """Return the sum over ``stretches``."""
        total: Counts = Counter()
        for stretch in stretches:
            for start, counts in self._segments:
                if stretch.start <= start < stretch.end:
                    total.update(counts)
        return total

    def _pass(self, offset: int) -> None:
        while self._waiting and offset >= self._waiting[0]:
            self._open(self._waiting.popleft())

    def _open(self, start: int) -> None:
        if start == self._base.offset:
            self._epoch = str(self._base.epoch).encode("ascii")
        self._counts = Counter()
        self._segments.append((start, self._counts))

    def _present(self, epoch: bytes) -> bool:
        # Writers write it without leading zeros; a reader takes others, too.
        return epoch == self._epoch or (
            epoch.startswith(b"0") and epoch.isdigit() and epoch.lstrip(b"0") == self._epoch
        )

    def _bounded(self, ce_type: bytes, actor: bytes) -> tuple[bytes, bytes]:
        kind = kind_of(ce_type.decode("utf-8", "replace")).encode("utf-8")
        if actor not in self._actors:
            if len(actor) > _MAX_ACTOR_BYTES or len(self._actors) >= MOST_ACTORS:
                return kind, OTHERS.encode("ascii")
            self._actors.add(actor)
        return kind, actor


@dataclass(frozen=True)
class Undone:
    """The stretches of the log that a restore would undo, and what is on them.

    And what it would not: the ``way`` from its ``base`` to its ``target``, and the blocks of the
    log that have events about access.
    """

    stretches: list[Stretch]
    counts: Counts
    base: Base
    target: int
    way: list[Stretch]
    access_blocks: set[int]

    def as_json(self) -> dict[str, Any]:
        """Return how many events there are, of what kinds, by whom."""
        kinds: Counter[str] = Counter()
        actors: Counter[str] = Counter()
        for (kind, actor), count in self.counts.items():
            kinds[kind.decode("utf-8")] += count
            actors[shown_actor(actor)] += count
        return {
            "total": self.counts.total(),
            "by_kind": dict(kinds.most_common()),
            "by_actor": dict(actors.most_common()),
            "stretches": [[stretch.start, stretch.end] for stretch in self.stretches],
        }


def shown_actor(actor: bytes) -> str:
    """Return an actor as it may be shown: what a terminal would obey is replaced."""
    text = actor.decode("utf-8", "replace") or UNKNOWN
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def find_undone(known: PresentLog, base: Base, target: int) -> Undone:
    """Return what a restore of ``base``, rolled forward to ``target``, would undo.

    Raises CrossesRestore, LogGap, LogLost when the log ends before the base, KafkaUnavailable.
    """
    if base.offset > known.end:
        raise LogLost(f"the log ends at {known.end}, the backup was made at {base.offset}")
    try:
        return _between(known, base, target)
    except Crossing as crossing:
        error = crosses_restore(known, crossing, known.end)
    if known.beginning > 0:
        raise error
    try:
        return _between(known, BEGINNING, target)
    except Crossing:
        raise error from None


def _between(known: PresentLog, base: Base, target: int) -> Undone:
    cuts = {base.offset, target, known.end}
    while True:
        tally = Tally(base, cuts)
        spans = known.spans(base.offset, tally)
        present = retrace(known.name, base, spans, known.end)
        check_whole(present, known.beginning)
        way = retrace(known.name, base, spans, target)
        stretches = beyond(present, way)
        if not (missing := tally.missing(stretches)):
            counts = tally.of(stretches)
            return Undone(stretches, counts, base, target, way, tally.access_blocks)
        cuts |= missing


def newest_undone(known: PresentLog, undone: Undone, count: int) -> list[dict[str, Any]]:
    """Return the last ``count`` events, the newest first: where, when, what, by whom, of what."""
    found: list[dict[str, Any]] = []
    for stretch in reversed(undone.stretches):
        for start, end in _windows(stretch):
            if len(found) == count:
                return found
            window: deque[dict[str, Any]] = deque(maxlen=count - len(found))
            for batch in known.reader.between(start, end):
                known.look()
                window.extend(_described(known, batch.records, stretch.epoch))
            found += reversed(window)
    return found


def _windows(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """Yield pieces of a stretch from its end on, wider and wider: what is sought may be rare."""
    end, width = stretch.end, _WINDOW
    while end > stretch.start:
        start = max(stretch.start, end - width)
        yield start, end
        end, width = start, min(2 * width, _WIDEST_WINDOW)


def _described(
    known: PresentLog, records: Sequence[Record], epoch: int
) -> Iterator[dict[str, Any]]:
    for record in records:
        try:
            found = read_record(record, epoch, known.context.issuers)
        except MessageUnreadable:
            continue
        if isinstance(found, LoggedEvent):
            time = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
            yield {
                "offset": found.offset,
                "time": time.isoformat(timespec="milliseconds"),
                "kind": found.type,
                "actor": found.actor,
            } | subject_of(found.event)
