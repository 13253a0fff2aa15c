"""Follow what another service tells: each event of some types is handed over, then committed.

Of several replicas one gets each event, at least once: a second copy is the handler's to
recognise, by the event's id. What cannot be read or is not signed is told and passed over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import structlog

from shared.errors import SecrynError, UnavailableError
from shared.eventstore.consumer import POLL_S, RETRY_S
from shared.kafka import Kafka, Record
from shared.messages import CloudEvent, Issuer, IssuerRegistry, verify

log = structlog.get_logger(__name__)

Handle = Callable[[CloudEvent, Issuer], None]
Refused = Callable[[CloudEvent | None, SecrynError, int], None]


class EventFollower:
    """Follow one topic as a member of a group, from its beginning on.

    ``handle`` works in a transaction of its own; it raises UnavailableError to get the event again.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        *,
        group_id: str,
        types: Collection[str],
        issuers: IssuerRegistry,
        handle: Handle,
        refused: Refused,
    ) -> None:
        self._kafka = kafka
        self._topic = kafka.topic(topic)
        self._group_id = group_id
        self._types = frozenset(kind.encode("ascii") for kind in types)
        self._issuers = issuers
        self._handle = handle
        self._refused = refused

    def run(self, stop: threading.Event) -> None:
        """Follow until ``stop``; a lost Kafka or PostgreSQL is waited for."""
        while not stop.is_set():
            try:
                with self._kafka.group_consumer([self._topic], self._group_id) as consumer:
                    while not stop.is_set():
                        for record in consumer.poll(POLL_S):
                            self._hand_over(record)
                            consumer.commit(record)
            except SecrynError as error:
                log.warning("follower.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _hand_over(self, record: Record) -> None:
        if not any(name == "ce_type" and kind in self._types for name, kind in record.headers):
            return
        event: CloudEvent | None = None
        try:
            event = CloudEvent.from_kafka(record)
            self._handle(event, verify(event, self._issuers))
        except UnavailableError:
            # The same event again when the part is back: nothing was committed.
            raise
        except SecrynError as error:
            self._refused(event, error, record.offset)
