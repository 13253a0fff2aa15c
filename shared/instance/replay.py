"""Fold stretches of the log into a schema: for a roll-forward, an undo, a rebuild, a rehearsal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import psycopg

from shared.database import Connection
from shared.errors import EventUnstorable, LogGap, MessageUnreadable
from shared.instance.events import LogAdopted
from shared.instance.fold import LoggedEvent
from shared.instance.history import ClosedAborted, ClosedRestored, FenceTracker, Opened
from shared.instance.reading import Announced, Skipped, may_announce, read_announced, read_record
from shared.instance.retrace import Span, Stretch
from shared.instance.store import apply_batch
from shared.kafka import LogReader, Record
from shared.messages import IssuerRegistry

BATCH_EVENTS: Final = 5_000

OnProgress = Callable[[int], None]


@dataclass
class Replayed:
    """What became of the events of all stretches."""

    applied: int = 0
    rejected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Watcher(Protocol):
    """Who looks on while the fences of a log are read."""

    def begin(self, start: int) -> None:
        """Begin, perhaps anew, at offset ``start``."""

    def see(self, record: Record) -> None:
        """Take the next record that is no restore event."""

    def cut(self, offset: int, spans: Sequence[Span]) -> None:
        """Take note of the restore event at ``offset``, and of the fences up to it."""


def read_spans(
    reader: LogReader,
    issuers: IssuerRegistry,
    start: int,
    end: int,
    on_progress: OnProgress,
    *,
    watcher: Watcher | None = None,
) -> list[Span]:
    """Return every fence that opened in ``log[start .. end)``; no body but theirs is read.

    Where ``start`` is not the beginning of the log, a Started whose number was used before it
    looks like a fence that stays open. ``on_progress`` gets the next offset, and may raise.
    """
    tracker, spans = FenceTracker(0), list[Span]()
    if watcher is not None:
        watcher.begin(start)
    for batch in reader.between(start, end):
        on_progress(batch.next_offset)
        for record in batch.records:
            announced = None
            # Asked for each of perhaps millions, of which a handful is one.
            if may_announce(record):
                with suppress(MessageUnreadable):
                    announced = read_announced(record, issuers)
            if announced is not None:
                _see(tracker, spans, announced)
            if watcher is not None:
                if announced is None:
                    watcher.see(record)
                else:
                    watcher.cut(record.offset, spans)
    return spans


def _see(tracker: FenceTracker, spans: list[Span], announced: Announced) -> None:
    if isinstance(announced.event, LogAdopted):
        if tracker.fence is not None:
            # No adoption lands behind a fence: both take the same locks.
            return
        at, adoption_id = announced.offset, announced.event.adoption_id
        spans.append(Span(adoption_id, at, at, None, adopted=True))
        return
    verdict = tracker.see(announced.offset, announced.event)
    if isinstance(verdict, Opened):
        spans.append(Span(verdict.fence.restore_id, announced.offset, None, None))
    elif isinstance(verdict, ClosedAborted | ClosedRestored):
        restored = verdict.event if isinstance(verdict, ClosedRestored) else None
        # Behind an open fence nothing but its end is added: it is the last.
        opened = spans.pop()
        spans.append(Span(opened.restore_id, opened.fence_offset, announced.offset, restored))


def check_whole(stretches: Sequence[Stretch], beginning: int) -> None:
    """Raise LogGap when the log begins at ``beginning``, behind the first event that is needed."""
    first = min((stretch.start for stretch in stretches), default=beginning)
    if first < beginning:
        raise LogGap(f"the log no longer has the offsets {first} to {beginning - 1}")


@dataclass(frozen=True)
class Unfoldable:
    """The event at which a fold ended, and why: it cannot be decoded, or the store refuses it."""

    offset: int
    fault: MessageUnreadable


def unstorable(error: psycopg.DatabaseError, offset: int | None) -> EventUnstorable:
    """Return what is to be said of an event that the store refuses with ``error``."""
    # The server's own message may repeat a value.
    which = "the event" if offset is None else f"the event at offset {offset}"
    return EventUnstorable(
        f"the store refuses {which} (SQLSTATE {error.sqlstate}, {type(error).__name__})"
    )


def replay(
    conn: Connection,
    schema: str,
    reader: LogReader,
    issuers: IssuerRegistry,
    stretches: Sequence[Stretch],
    *,
    on_progress: OnProgress,
) -> Replayed:
    """Fold ``stretches`` into ``schema``, a batch at a time; in the caller's transaction, if any.

    ``on_progress`` gets how many offsets were read, and may raise. Raises MessageUnreadable for an
    event that cannot be decoded, EventUnstorable for one that the store refuses, both naming its
    offset, and KafkaUnavailable.
    """
    replayed, ended = replay_as_far(
        conn, schema, reader, issuers, stretches, on_progress=on_progress
    )
    if ended is None:
        return replayed
    raise type(ended.fault)(
        ended.fault.message, hint=f"Roll forward to offset {ended.offset}, or to one before it."
    )


def replay_as_far(
    conn: Connection,
    schema: str,
    reader: LogReader,
    issuers: IssuerRegistry,
    stretches: Sequence[Stretch],
    *,
    on_progress: OnProgress,
) -> tuple[Replayed, Unfoldable | None]:
    """Do the same up to the first event that cannot be folded, and return which that is.

    Every event before it is in the state then, and none behind it, as a projector leaves it.
    """
    replayed, done = Replayed(), 0
    for stretch in stretches:
        for batch in reader.between(stretch.start, stretch.end, BATCH_EVENTS):
            events, unreadable = _decoded(batch.records, stretch.epoch, issuers, replayed)
            refused = _apply(conn, schema, events, stretch.epoch, replayed)
            if (ended := refused or unreadable) is not None:
                return replayed, ended
            on_progress(done + batch.next_offset - stretch.start)
        done += stretch.end - stretch.start
    return replayed, None


def _decoded(
    records: Sequence[Record], epoch: int, issuers: IssuerRegistry, replayed: Replayed
) -> tuple[list[LoggedEvent], Unfoldable | None]:
    """Return the events up to the first that cannot be decoded, and that one."""
    events: list[LoggedEvent] = []
    for record in records:
        try:
            found = read_record(record, epoch, issuers)
        except MessageUnreadable as error:
            what = f"the event at offset {record.offset} cannot be decoded: {error.message}"
            return events, Unfoldable(record.offset, MessageUnreadable(what))
        if isinstance(found, LoggedEvent):
            events.append(found)
        elif isinstance(found, Skipped):
            replayed.skipped[found.reason] += 1
    return events, None


def _apply(
    conn: Connection, schema: str, events: list[LoggedEvent], epoch: int, replayed: Replayed
) -> Unfoldable | None:
    """Apply the events up to the first that the store refuses; return that one."""
    if not events:
        return None
    try:
        with conn.transaction():
            result = apply_batch(conn, schema, events, epoch)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(events) == 1:
            offset = events[0].offset
            return Unfoldable(offset, unstorable(error, offset))
        middle = len(events) // 2
        first = _apply(conn, schema, events[:middle], epoch, replayed)
        return first or _apply(conn, schema, events[middle:], epoch, replayed)
    replayed.applied += result.applied
    replayed.rejected += result.rejected
    return None
