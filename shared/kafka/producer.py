"""Append records: idempotently, or in transactions that fence every other producer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer

from shared.kafka.connecting import connecting
from shared.kafka.faults import kafka_faults, translate

SEND_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class OutgoingMessage:
    """A record before it stands on a topic."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Delivered:
    """Where a record came to stand."""

    topic: str
    partition: int
    offset: int


class Pending:
    """A record under way."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def done(self) -> bool:
        """Tell whether ``result`` returns or raises at once."""
        return bool(self._future.is_done)

    def result(self, timeout_s: float = SEND_TIMEOUT_S) -> Delivered:
        """Wait for the acknowledgement. Raises ValueTooLarge, AccessError, KafkaUnavailable."""
        with kafka_faults("sending"):
            metadata = self._future.get(timeout=timeout_s)
        return Delivered(metadata.topic, metadata.partition, metadata.offset)


class _Sender:
    def __init__(self, options: dict[str, Any], **more: Any) -> None:
        with connecting("connecting to send", options) as settings:
            self._producer = KafkaProducer(
                **settings,
                **more,
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                max_block_ms=15000,
                delivery_timeout_ms=30000,
                request_timeout_ms=15000,
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

    def send(self, topic: str, message: OutgoingMessage) -> Pending:
        """Hand a record over; ``result`` of what is returned waits for the acknowledgement."""
        with kafka_faults(f"sending to {topic}"):
            return Pending(
                self._producer.send(
                    topic,
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers),
                    partition=0,
                )
            )

    def flush(self) -> None:
        """Wait until everything handed over is acknowledged or failed."""
        with kafka_faults("flushing"):
            self._producer.flush(SEND_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection; what is under way is waited for a moment."""
        self._producer.close(timeout=5)


class Producer(_Sender):
    """An idempotent producer: a re-send of its own is not a second record."""

    def __init__(self, options: dict[str, Any], linger_ms: int = 0) -> None:
        super().__init__(options, linger_ms=linger_ms, batch_size=256 * 1024)

    def send_sync(self, topic: str, message: OutgoingMessage) -> int:
        """Append one record and return its offset."""
        return self.send(topic, message).result().offset


class TransactionalProducer(_Sender):
    """A producer with a transactional id: starting it ends whatever an older one left open."""

    def __init__(self, options: dict[str, Any], transactional_id: str) -> None:
        super().__init__(options, transactional_id=transactional_id, transaction_timeout_ms=30000)
        try:
            with kafka_faults("taking a transactional id over"):
                self._producer.init_transactions()
        except BaseException:
            self._producer.close(timeout=0)
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is sent inside, or abort it when an error leaves the block.

        Raises ProducerFenced when another process took the id over; nothing was committed then.
        """
        with kafka_faults("beginning a transaction"):
            self._producer.begin_transaction()
        try:
            yield
            with kafka_faults("committing a transaction"):
                self._producer.commit_transaction()
        except BaseException as error:
            self._abort(error)
            raise

    def _abort(self, cause: BaseException) -> None:
        try:
            self._producer.abort_transaction()
        except Exception as second:
            # The broker ends it by its time-out, or the next holder of the id does at once.
            cause.add_note(f"the transaction was left open: {translate(second, 'aborting')}")
