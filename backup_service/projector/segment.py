"""A run of records that can be stored in one transaction: up to a fence or an unreadable event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backup_service.projector.status import Stopped
from backup_service.projector.store import Advance
from shared.errors import MessageUnreadable, NeedsArchive
from shared.instance.events import LogAdopted
from shared.instance.fold import LoggedEvent
from shared.instance.history import FenceTracker, Ignored, Opened
from shared.instance.position import LogPosition
from shared.instance.reading import Announced, read_record
from shared.kafka import Record
from shared.messages import IssuerRegistry


@dataclass
class Segment:
    """Events to apply, where the position goes with them, and what ended the run early."""

    events: list[LoggedEvent]
    advance: Advance
    stopped: Stopped | None = None
    opened: Opened | None = None
    # Where the position goes with the fence: behind F.
    opened_last: Advance = field(default_factory=lambda: Advance(0))

    def halves(self) -> Iterator[Segment]:
        """Split the events in two; what was passed over counts with the second half."""
        middle = len(self.events) // 2
        last = self.events[middle - 1]
        yield Segment(self.events[:middle], Advance(last.offset + 1, (last.offset, last.event_id)))
        yield Segment(self.events[middle:], self.advance)


def read_segment(
    records: list[Record],
    next_offset: int,
    position: LogPosition,
    issuers: IssuerRegistry,
    tracker: FenceTracker,
) -> Segment:
    """Decode ``records`` up to the first that raises a fence or stops the projector."""
    segment = Segment([], Advance(next_offset))
    for record in records:
        try:
            found = read_record(record, position.epoch, issuers)
        except MessageUnreadable as error:
            segment.advance.next_offset = record.offset
            hint = (
                f"Pass this one event with `secryn instance skip-event --offset {record.offset} "
                "--instance ID`, or restore a backup."
            )
            segment.stopped = Stopped(error.code, record.offset, error.message, hint)
            return segment
        if isinstance(found, LoggedEvent):
            segment.events.append(found)
        elif isinstance(found, Announced):
            if (stopped := _lacks_base(found, position)) is not None:
                segment.advance.next_offset = found.offset
                segment.stopped = stopped
                return segment
            verdict = tracker.see(found.offset, found.event)
            if isinstance(verdict, Opened):
                segment.advance.next_offset = found.offset
                segment.opened = verdict
                segment.opened_last = Advance(found.offset + 1, (found.offset, found.event_id))
                return segment
            if isinstance(verdict, Ignored):
                segment.advance.skipped[verdict.reason] += 1
        else:
            segment.advance.skipped[found.reason] += 1
        segment.advance.last = (found.offset, found.event_id)
    return segment


def _lacks_base(found: Announced, position: LogPosition) -> Stopped | None:
    """Say why a state that does not rest on the log adoption ``found`` cannot go past it.

    One that a restore has put here since has a later epoch, and rests on nothing before.
    """
    event = found.event
    if not isinstance(event, LogAdopted):
        return None
    if event.adoption_id == position.adoption_id or event.epoch < position.epoch:
        return None
    return Stopped(
        NeedsArchive.code,
        found.offset,
        "this log was adopted here; what the instance held before is on another log, which is lost",
        "Restore a backup: the newest one of after the adoption.",
    )
