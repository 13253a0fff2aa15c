"""A member of a consumer group: commits by hand, after the work."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition

from shared.kafka.connecting import connecting
from shared.kafka.faults import kafka_faults
from shared.kafka.reader import Record, to_record

# What a killed member held is another's after so long; the broker's usual least is 6 s.
SESSION_TIMEOUT_MS = 10_000
HEARTBEAT_MS = 3_000
# The broker answers nobody on a connection on which it still holds back a join.
LEAVE_TIMEOUT_MS = 2_000


class GroupConsumer:
    """Read topics together with the other members of ``group_id``, at least once."""

    def __init__(self, options: dict[str, Any], topics: list[str], group_id: str) -> None:
        with connecting(f"connecting to consume {', '.join(topics)}", options) as settings:
            self._consumer = KafkaConsumer(
                *topics,
                **settings,
                group_id=group_id,
                enable_auto_commit=False,
                # A group's first member begins at the start: a command sent before is not lost.
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def poll(self, timeout_s: float) -> list[Record]:
        """Return what arrived within ``timeout_s``, at most one. Raises KafkaUnavailable.

        One at a time: every record is committed before the next is seen.
        """
        with kafka_faults("consuming"):
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=1)
        return [to_record(raw) for records in found.values() for raw in records]

    def commit(self, record: Record) -> None:
        """Note that ``record`` was worked off. Raises KafkaUnavailable."""
        partition = TopicPartition(record.topic, record.partition)
        with kafka_faults("committing an offset"):
            self._consumer.commit({partition: OffsetAndMetadata(record.offset + 1, "", -1)})

    def close(self) -> None:
        """Leave the group; a broker that does not answer finds out by itself."""
        self._consumer.close(timeout_ms=LEAVE_TIMEOUT_MS)
