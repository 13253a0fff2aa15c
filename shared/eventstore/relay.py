"""Publish a service's events in their order, at least once, and on one topic never twice.

One replica leads: it holds a lock of its session, and its producer's transactional id fences
whoever led before. Between a commit on Kafka and its note in the store a leader may die; so the
next one first reads what already stands behind the last noted offset.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from uuid import UUID

import psycopg
import structlog

from shared.crashpoints import CrashPoint
from shared.database import Connection, Lock, postgres_faults, try_lock
from shared.errors import ConflictError, KafkaUnavailable, SecrynError, UnavailableError
from shared.eventstore.store import Delivery, EventStore, StoredEvent
from shared.kafka import Kafka, LogReader, OutgoingMessage, Record, TransactionalProducer
from shared.messages import CloudEvent, SigningKey, sign

log = structlog.get_logger(__name__)

BATCH = 200
IDLE_S = 0.05
RETRY_S = 0.5
# A producer that lost its broker may stay silent for ever: a new one says at once how things are.
PUBLISH_WAIT_S = 5.0
ACTOR_MAX_CHARS = 200

SENT = CrashPoint("relay.sent")
PUBLISHED = CrashPoint("relay.published")


class Relay:
    """The relay of one service; every message is signed by ``key`` as ``issuer``."""

    def __init__(
        self,
        store: EventStore,
        kafka: Kafka,
        dsn: str,
        *,
        transactional_id: str,
        lock: Lock,
        key: SigningKey,
        issuer: str,
    ) -> None:
        self._store = store
        self._kafka = kafka
        self._dsn = dsn
        self._transactional_id = transactional_id
        self._lock = lock
        self._key = key
        self._issuer = issuer

    def run(self, stop: threading.Event) -> None:
        """Lead whenever nobody else does, until ``stop``; lost parts are waited for."""
        while not stop.is_set():
            try:
                with (
                    postgres_faults("relaying"),
                    psycopg.connect(self._dsn, autocommit=True, connect_timeout=10) as conn,
                ):
                    self._lead(conn, stop)
            except (UnavailableError, ConflictError) as error:
                log.warning("relay.interrupted", code=error.code, reason=error.message)
            except SecrynError as error:
                log.error("relay.refused", code=error.code, reason=error.message)
            stop.wait(RETRY_S)

    def _lead(self, conn: Connection, stop: threading.Event) -> None:
        while not try_lock(conn, self._lock):
            if stop.wait(RETRY_S):
                return
        with self._kafka.transactional_producer(self._transactional_id) as producer:
            self._note_what_landed(conn)
            log.info("relay.leads", issuer=self._issuer)
            while not stop.is_set():
                if not self._publish_some(conn, producer):
                    stop.wait(IDLE_S)

    def _publish_some(self, conn: Connection, producer: TransactionalProducer) -> bool:
        after = self._store.waits_behind(conn)
        if after is None:
            return False
        events = self._store.read_all(conn, after, BATCH)
        # What an earlier leader published, and this one found, is noted and not sent again.
        found = self._store.published_behind(conn, after)
        waiting = [
            event for event in events if event.topic is not None and event.event_id not in found
        ]
        delivered = self._send(producer, waiting) if waiting else {}
        PUBLISHED.reach()
        with conn.transaction():
            self._store.note_relayed(conn, events[-1].position, delivered)
        return True

    def _send(
        self, producer: TransactionalProducer, events: Sequence[StoredEvent]
    ) -> dict[StoredEvent, Delivery]:
        delivered: dict[StoredEvent, Delivery] = {}
        with producer.transaction():
            pending = [
                (event, producer.send(self._full_topic(event), self._message(event)))
                for event in events
            ]
            for event, sent in pending:
                place = sent.result(PUBLISH_WAIT_S)
                delivered[event] = Delivery(place.topic, place.offset)
            SENT.reach()
        return delivered

    def _full_topic(self, event: StoredEvent) -> str:
        return self._kafka.topic(event.topic or "")

    def _message(self, event: StoredEvent) -> OutgoingMessage:
        return to_message(event, self._key, self._issuer).to_kafka(event.stream.encode("utf-8"))

    def _note_what_landed(self, conn: Connection) -> None:
        """Look behind the last noted offset of each topic for events not noted as published."""
        events = self._store.read_all(conn, self._store.relayed(conn), BATCH)
        waiting: dict[str, dict[UUID, StoredEvent]] = {}
        for event in events:
            if event.topic is not None:
                waiting.setdefault(self._full_topic(event), {})[event.event_id] = event
        for topic, unnoted in waiting.items():
            found = self._landed(conn, topic, unnoted)
            with conn.transaction():
                self._store.note_relayed(conn, 0, found)

    def _landed(
        self, conn: Connection, topic: str, unnoted: dict[UUID, StoredEvent]
    ) -> dict[StoredEvent, Delivery]:
        with self._kafka.admin() as admin:
            first, end = admin.beginning_offset(topic), admin.high_watermark(topic)
        last = self._store.last_delivered(conn, topic)
        found: dict[StoredEvent, Delivery] = {}
        # The instance's log may hold millions of others behind the last that was noted.
        wanted = {str(event_id).encode("ascii"): event for event_id, event in unnoted.items()}
        with self._kafka.log_reader(topic) as reader:
            start = first
            if last is not None and first <= last[1] < end and _stands(reader, *last, end):
                start = last[1] + 1
            for record in _records(reader, start, end):
                event = wanted.get(_id_of(record))
                if event is not None:
                    found[event] = Delivery(topic, record.offset)
        return found


def _stands(reader: LogReader, event_id: UUID, offset: int, end: int) -> bool:
    """Tell whether the event stands at ``offset``; a log that was replaced is looked at whole."""
    found = next(_records(reader, offset, end), None)
    if found is None or found.offset != offset:
        return False
    return _id_of(found) == str(event_id).encode("ascii")


def _records(reader: LogReader, start: int, end: int) -> Iterator[Record]:
    """Yield what stands from ``start`` to ``end``. Raises KafkaUnavailable."""
    reader.seek(start)
    position = start
    while position < end:
        batch = reader.poll(500, 1.0)
        if batch.next_offset == position:
            # Most often a transaction of another service on a topic that both write.
            raise KafkaUnavailable(f"{reader.topic} cannot be read from {position} to {end} yet")
        position = batch.next_offset
        yield from batch.records


def _id_of(record: Record) -> bytes:
    return dict(record.headers).get("ce_id", b"")


def to_message(event: StoredEvent, key: SigningKey, issuer: str) -> CloudEvent:
    """Return the signed CloudEvent of a stored event."""
    # Who did it, for whoever follows; an event on the instance's log names its own.
    extensions = (
        {"actor": _shown(event.actor)}
        | dict(event.extensions)
        | {
            "correlationid": event.correlation_id,
            "causationid": event.causation_id,
            "traceparent": traceparent(event.correlation_id, event.event_id),
        }
    )
    message = CloudEvent(
        id=event.event_id,
        type=event.type,
        source=f"/secryn/{issuer}",
        time=event.occurred_at,
        subject=event.stream,
        data=json.dumps(event.data, ensure_ascii=False, separators=(",", ":")).encode("utf-8"),
        extensions={name: text for name, text in extensions.items() if text},
    )
    return sign(message, key, issuer)


def _shown(actor: str) -> str:
    """Return a name as an attribute takes it: one that it did not take would stop the relay."""
    kept = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in actor)
    return kept[:ACTOR_MAX_CHARS]


def traceparent(correlation_id: str, event_id: UUID) -> str:
    """Return a W3C Trace Context header: one trace for all that one request caused."""
    trace = hashlib.sha256(correlation_id.encode("utf-8")).hexdigest()[:32]
    return f"00-{trace}-{event_id.hex[:16]}-01"
