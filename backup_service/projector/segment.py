"""A run of records that can be stored in one transaction: up to a fence or an unreadable event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from backup_service.projector.status import Stopped
from backup_service.projector.store import Advance
from shared.errors import MessageUnreadable
from shared.instance.fold import LoggedEvent
from shared.instance.history import FenceTracker, Ignored, Opened
from shared.instance.reading import Announced, read_record
from shared.kafka import Record
from shared.messages import IssuerRegistry


@dataclass
class Segment:
    """Events to apply, where the position goes with them, and what ended the run early."""

    events: list[LoggedEvent]
    advance: Advance
    unreadable: Stopped | None = None
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
    epoch: int,
    issuers: IssuerRegistry,
    tracker: FenceTracker,
) -> Segment:
    """Decode ``records`` up to the first that raises a fence or cannot be decoded."""
    segment = Segment([], Advance(next_offset))
    for record in records:
        try:
            found = read_record(record, epoch, issuers)
        except MessageUnreadable as error:
            segment.advance.next_offset = record.offset
            hint = (
                f"Pass this one event with `secryn instance skip-event --offset {record.offset} "
                "--instance ID`, or restore a backup."
            )
            segment.unreadable = Stopped(error.code, record.offset, error.message, hint)
            return segment
        if isinstance(found, LoggedEvent):
            segment.events.append(found)
        elif isinstance(found, Announced):
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
