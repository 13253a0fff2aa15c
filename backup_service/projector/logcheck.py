"""Is this the log that the store was folded from? Asked before anything is read from it."""

from __future__ import annotations

import time
from typing import Final

from shared.errors import KafkaUnavailable, LogLost, MessageUnreadable
from shared.instance.position import LogPosition
from shared.instance.whichlog import check_bounds, check_identity
from shared.kafka import LogAdmin, LogReader, Record
from shared.messages import CloudEvent

READ_TIMEOUT_S: Final = 15.0


def check_log(position: LogPosition, admin: LogAdmin, reader: LogReader) -> int:
    """Check identity, bounds and the last folded event; return the high watermark.

    Raises LogLost when the log is not the one that the store was folded from.
    """
    check_identity(position, admin.log_identity(reader.topic))
    beginning = admin.beginning_offset(reader.topic)
    high_watermark = admin.high_watermark(reader.topic)
    check_bounds(position, beginning, high_watermark)
    if position.last_offset is not None and position.last_offset >= beginning:
        _check_last_event(position, position.last_offset, reader)
    return high_watermark


def _check_last_event(position: LogPosition, offset: int, reader: LogReader) -> None:
    record = read_one(reader, offset)
    if record is None or record.offset != offset:
        raise LogLost(f"the log has no event at offset {offset}, the last that was folded")
    try:
        found = CloudEvent.from_kafka(record).id
    except MessageUnreadable as error:
        raise LogLost(f"the log has another event at offset {offset}: {error.message}") from error
    if found != position.last_event_id:
        raise LogLost(
            f"the log has event {found} at offset {offset}, the store folded"
            f" {position.last_event_id}"
        )


def read_one(reader: LogReader, offset: int) -> Record | None:
    """Return the first record from ``offset`` on; None when none is there. Raises KafkaUnavailable."""
    reader.seek(offset)
    deadline = time.monotonic() + READ_TIMEOUT_S
    while time.monotonic() < deadline:
        batch = reader.poll(1, 0.5)
        if batch.records:
            return batch.records[0]
        if batch.next_offset > offset:
            return None
    raise KafkaUnavailable(f"the log gave nothing at offset {offset} in {READ_TIMEOUT_S:.0f} s")
