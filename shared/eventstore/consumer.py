"""Take commands from a topic: each is read, its signature checked, handed over, then committed.

What cannot be read goes to the dead-letter topic with the reason and never stops what follows.
A second copy of a command is the handler's to recognise, by its ``command_id``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from shared.errors import (
    MessageUnreadable,
    SecrynError,
    SignatureInvalid,
    UnavailableError,
    ValueTooLarge,
)
from shared.kafka import GroupConsumer, Kafka, OutgoingMessage, Producer, Record
from shared.messages import CloudEvent, Issuer, IssuerRegistry, verify
from shared.messages.topics import DEAD_LETTER_SUFFIX

log = structlog.get_logger(__name__)

POLL_S = 0.5
RETRY_S = 1.0


@dataclass(frozen=True)
class ReceivedCommand:
    """A command and who issued it."""

    event: CloudEvent
    issuer: Issuer
    offset: int


Handle = Callable[[ReceivedCommand], None]
Refused = Callable[[CloudEvent | None, SecrynError, int], None]


class CommandConsumer:
    """Consume one command topic as a member of a group.

    ``handle`` stores the command in a transaction of its own and returns quickly; it raises
    UnavailableError to get the command again. ``refused`` is told of every unreadable, unsigned
    or forged message.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        *,
        group_id: str,
        issuers: IssuerRegistry,
        handle: Handle,
        refused: Refused,
    ) -> None:
        self._kafka = kafka
        self._topic = kafka.topic(topic)
        self._dead = kafka.topic(topic + DEAD_LETTER_SUFFIX)
        self._group_id = group_id
        self._issuers = issuers
        self._handle = handle
        self._refused = refused

    def run(self, stop: threading.Event) -> None:
        """Consume until ``stop``; a lost Kafka or PostgreSQL is waited for."""
        while not stop.is_set():
            try:
                with (
                    self._kafka.group_consumer([self._topic], self._group_id) as consumer,
                    self._kafka.producer() as producer,
                ):
                    self._consume(consumer, producer, stop)
            except SecrynError as error:
                log.warning("commands.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _consume(self, consumer: GroupConsumer, producer: Producer, stop: threading.Event) -> None:
        while not stop.is_set():
            for record in consumer.poll(POLL_S):
                self._work_off(record, producer)
                consumer.commit(record)

    def _work_off(self, record: Record, producer: Producer) -> None:
        event: CloudEvent | None = None
        try:
            event = CloudEvent.from_kafka(record)
            issuer = verify(event, self._issuers)
            self._handle(ReceivedCommand(event, issuer, record.offset))
        except UnavailableError:
            # The same command again when the part is back: nothing was committed.
            raise
        except SecrynError as error:
            self._refused(event, error, record.offset)
            if isinstance(error, MessageUnreadable | SignatureInvalid):
                self._put_aside(record, error, producer)

    def _put_aside(self, record: Record, error: SecrynError, producer: Producer) -> None:
        reason = (
            ("dead_letter_code", error.code.encode()),
            ("dead_letter_reason", error.message.encode("utf-8", "replace")),
            ("dead_letter_offset", str(record.offset).encode()),
        )
        whole = OutgoingMessage(record.key, record.value or b"", record.headers + reason)
        try:
            producer.send_sync(self._dead, whole)
        except ValueTooLarge:
            # With its reason it is larger than it came, or it came compressed. It must not stop
            # what follows; the command topic still has it at the offset.
            left_out = (("dead_letter_left_out", b"key, headers and body: too large"),)
            producer.send_sync(self._dead, OutgoingMessage(None, b"", reason + left_out))
