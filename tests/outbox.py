"""One service's event store, its topics and its relay, for a test that wants nothing else.

place = Outbox.create(kafka, postgres, tmp_path)
place.append("stream", "a", "b")             # two events for backup.events
with place.relay():                          # in a thread of the test
    place.wait_relayed()
place.on_topic(BACKUP_EVENTS)                # what a read_committed reader sees
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from kafka.admin import KafkaAdminClient

from shared.database import Connection, Lock
from shared.errors import SecrynError
from shared.eventstore import EventMeta, EventStore, NewEvent, Relay, StoredEvent
from shared.kafka import Kafka, Record, TopicSpec
from shared.messages import Issuer, IssuerRegistry, SigningKey
from shared.messages.topics import AUDIT, BACKUP_EVENTS, TOPICS
from shared.settings import KafkaSettings
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

SERVICE = "backup_service"
META = EventMeta("tester", "corr-1", "cause-1")


def new_store(dsn: str) -> EventStore:
    """Return a store with its tables made."""
    store = EventStore("backup", Lock.BACKUP_APPEND)
    with psycopg.connect(dsn) as conn:
        store.migrate(conn)
    return store


def replace_topic(kafka: Kafka, settings: KafkaSettings, topic: str) -> None:
    """Delete a topic and make another, empty one of the same name."""
    assert settings.password_file is not None
    admin = KafkaAdminClient(
        bootstrap_servers=settings.bootstrap,
        security_protocol=settings.security_protocol,
        sasl_mechanism=settings.sasl_mechanism,
        sasl_plain_username=settings.username,
        sasl_plain_password=settings.password_file.read_text(),
    )
    admin.delete_topics([kafka.topic(topic)])
    admin.close()

    def made() -> bool:
        with kafka.admin() as ours:
            try:
                ours.ensure_topic(TopicSpec(kafka.topic(topic), 1, TOPICS[topic]))
            except SecrynError:
                return False
            return True

    eventually(made, "the topic is there again")


@contextmanager
def in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``work(stop)`` beside the block; it must end when it is told to, without an error."""
    stop, faults = threading.Event(), list[BaseException]()

    def body() -> None:
        try:
            work(stop)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        assert faults == []


@dataclass
class Outbox:
    """Everything around one event store."""

    dsn: str
    store: EventStore
    settings: KafkaSettings
    kafka: Kafka
    key: SigningKey

    @classmethod
    def create(
        cls,
        kafka: TestKafka,
        postgres: TestPostgres,
        folder: Path,
        topics: tuple[str, ...] = (BACKUP_EVENTS, AUDIT),
    ) -> Outbox:
        """Make an empty database and the ``topics``; those that are not needed take time."""
        settings = kafka.settings()
        client = Kafka(settings, "test")
        with client.admin() as admin:
            for name in topics:
                admin.ensure_topic(TopicSpec(client.topic(name), 1, TOPICS[name]))
        dsn = postgres.fresh_database()
        key = SigningKey.create(folder / "service.key")
        return cls(dsn, new_store(dsn), settings, client, key)

    @property
    def registry(self) -> IssuerRegistry:
        return IssuerRegistry({SERVICE: Issuer(SERVICE, self.key.public)})

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        with psycopg.connect(self.dsn) as conn:
            yield conn

    def append(
        self, stream: str, *names: str, topic: str | None = BACKUP_EVENTS
    ) -> list[StoredEvent]:
        """Append an event for each of ``names`` in one transaction."""
        events = [NewEvent("com.secryn.test.v1", {"name": name}, topic) for name in names]
        with self.connection() as conn:
            version = self.store.version(conn, stream)
            return self.store.append(conn, stream, version, events, META)

    def stored(self) -> list[StoredEvent]:
        with self.connection() as conn:
            return self.store.read_all(conn, 0, 100_000)

    # The relay

    @property
    def transactional_id(self) -> str:
        return self.kafka.topic("backup.relay")

    def new_relay(self, kafka: Kafka | None = None, dsn: str | None = None) -> Relay:
        return Relay(
            self.store, kafka or self.kafka, dsn or self.dsn,
            transactional_id=self.transactional_id, lock=Lock.BACKUP_RELAY,
            key=self.key, issuer=SERVICE,
        )  # fmt: skip

    @contextmanager
    def relay(self, kafka: Kafka | None = None, dsn: str | None = None) -> Iterator[None]:
        """Run a relay beside the block."""
        with in_thread(self.new_relay(kafka, dsn).run):
            yield

    def relayed(self) -> int:
        with self.connection() as conn:
            return self.store.relayed(conn)

    def wait_relayed(self) -> None:
        """Wait until everything that is stored now is noted as published."""
        last = self.stored()[-1].position
        eventually(lambda: self.relayed() >= last, f"position {last} is relayed")

    # The topics

    def end(self, topic: str = BACKUP_EVENTS) -> int:
        with self.kafka.admin() as admin:
            return admin.high_watermark(self.kafka.topic(topic))

    def on_topic(
        self, topic: str = BACKUP_EVENTS, isolation: str = "read_committed"
    ) -> list[Record]:
        """Return every record that stands on ``topic``."""
        end, found, position = self.end(topic), list[Record](), 0
        with self.kafka.log_reader(self.kafka.topic(topic), isolation=isolation) as reader:
            reader.seek(0)
            while position < end:
                batch = reader.poll(1000, 5.0)
                assert batch.next_offset > position, f"{topic} cannot be read behind {position}"
                found += batch.records
                position = batch.next_offset
        return found

    def published(self, topic: str = BACKUP_EVENTS) -> list[str]:
        """Return the ids of the events that stand on ``topic``."""
        return [dict(record.headers)["ce_id"].decode() for record in self.on_topic(topic)]

    def to_publish(self, topic: str = BACKUP_EVENTS) -> list[str]:
        """Return the ids of the stored events that belong on ``topic``."""
        return [str(event.event_id) for event in self.stored() if event.topic == topic]

    def lose(self, topic: str = BACKUP_EVENTS) -> None:
        """Delete a topic and make another, empty one of the same name."""
        replace_topic(self.kafka, self.settings, topic)

    def forget(self, after: int) -> None:
        """Take back the notes behind a position: the leader died before it could write them."""
        with self.connection() as conn:
            conn.execute("DELETE FROM backup.deliveries WHERE position > %s", (after,))
            conn.execute("UPDATE backup.relay SET position = %s", (after,))
