"""Read one partition in order, and know the next offset, markers and aborted runs counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import TopicAuthorizationFailedError

from shared.errors import KafkaUnavailable
from shared.kafka.connecting import connecting
from shared.kafka.faults import kafka_faults

READ_WAIT_S: Final = 1.0
# For so long a reader in the middle of the log may get nothing.
SILENCE_S: Final = 15.0


class Record(NamedTuple):
    """A record as it stands on a topic; ``timestamp_ms`` is the log-append time where set so."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Batch:
    """What one poll gave. ``next_offset`` may have moved though ``records`` is empty."""

    records: list[Record]
    next_offset: int


class LogReader:
    """A reader without a group: where it reads is the caller's to keep."""

    def __init__(self, options: dict[str, Any], topic: str, partition: int, isolation: str) -> None:
        self.topic = topic
        self._partition = TopicPartition(topic, partition)
        with connecting(f"connecting to read {topic}", options) as settings:
            self._consumer = KafkaConsumer(
                **settings,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level=isolation,
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=4 * 1024 * 1024,
                fetch_max_wait_ms=100,
            )
            self._consumer.assign([self._partition])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def seek(self, offset: int) -> None:
        """Read from ``offset`` on."""
        with kafka_faults(f"seeking in {self.topic}"):
            self._consumer.seek(self._partition, offset)

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return up to ``max_records`` records; empty when there are none in ``timeout_s``.

        Raises LogLost when the position lies outside of the log, AccessError, KafkaUnavailable.
        """
        with kafka_faults(f"reading {self.topic}"):
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
            # The client only logs this: a reader without rights would wait for ever.
            if not found and self.topic in self._consumer._cluster.unauthorized_topics:
                raise TopicAuthorizationFailedError(self.topic)
            next_offset: int = self._consumer.position(self._partition)
        records = [to_record(raw) for raw in found.get(self._partition, ())]
        if records:
            # The client's own position may be past a marker that follows the last record.
            next_offset = max(next_offset, records[-1].offset + 1)
        return Batch(records, next_offset)

    def between(self, start: int, end: int, max_records: int = 2000) -> Iterator[Batch]:
        """Read the records from ``start`` to before ``end``; memory is that of one read.

        ``end`` is not behind the last stable offset. Raises KafkaUnavailable when the log gives
        nothing for so long, and as ``poll`` does.
        """
        self.seek(start)
        position, deadline = start, time.monotonic() + SILENCE_S
        while position < end:
            batch = self.poll(max_records, READ_WAIT_S)
            if batch.next_offset > position:
                deadline = time.monotonic() + SILENCE_S
            elif time.monotonic() > deadline:
                raise KafkaUnavailable(f"{self.topic} gave nothing at offset {position}")
            position = batch.next_offset
            yield Batch([r for r in batch.records if r.offset < end], min(position, end))

    def first_offset_at(self, timestamp_ms: int) -> int | None:
        """Return the first offset whose time is not before ``timestamp_ms``, or None behind all."""
        with kafka_faults(f"looking for a time in {self.topic}"):
            found = self._consumer.offsets_for_times({self._partition: timestamp_ms})
        entry = found.get(self._partition)
        return None if entry is None else int(entry.offset)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def to_record(raw: Any) -> Record:
    """Return our record for the client's."""
    headers = tuple(raw.headers)
    # A header's value may be null on Kafka: for a reader that is an empty one.
    if None in [value for _, value in headers]:
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, headers)
