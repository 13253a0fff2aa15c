"""The relay when its leader dies between two steps, and when Kafka or PostgreSQL is away."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from deploy.embedded.process import free_ports
from shared.eventstore.relay import to_message
from shared.kafka import Kafka
from shared.messages import CloudEvent
from shared.messages.topics import AUDIT, BACKUP_EVENTS
from tests.outbox import SERVICE, Outbox
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def place(kafka: TestKafka, postgres: TestPostgres, tmp_path: Path) -> Outbox:
    return Outbox.create(kafka, postgres, tmp_path)


_DEADLY_NOTES = """
CREATE SEQUENCE backup.notes;
CREATE FUNCTION backup.die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('backup.notes') % 3 = 1 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER die BEFORE UPDATE ON backup.relay FOR EACH STATEMENT EXECUTE FUNCTION backup.die();
"""


# A leader that dies


def test_what_landed_before_a_death_is_found_and_not_sent_again(place: Outbox) -> None:
    first = place.append("s", "noted")[-1]
    with place.relay():
        place.wait_relayed()
        place.append("s", "a", "b")
        place.append("audit", "x", topic=AUDIT)
        place.wait_relayed()
    with place.connection() as conn:
        before = conn.execute("SELECT * FROM backup.deliveries ORDER BY position").fetchall()
    ends = place.end(), place.end(AUDIT)
    place.forget(first.position)
    with place.relay():
        place.wait_relayed()
    assert (place.end(), place.end(AUDIT)) == ends
    assert place.published() == place.to_publish()
    with place.connection() as conn:
        after = conn.execute("SELECT * FROM backup.deliveries ORDER BY position").fetchall()
    assert after == before


def test_of_a_batch_only_what_did_not_land_is_sent(place: Outbox) -> None:
    """Topic by topic: what lies on one of them says nothing about the others."""
    with place.relay():
        place.append("s", "landed")
        place.wait_relayed()
    place.append("audit", "not landed", topic=AUDIT)
    place.append("s", "not landed either")
    place.forget(0)
    with place.relay():
        place.wait_relayed()
    assert place.published() == place.to_publish()
    assert place.published(AUDIT) == place.to_publish(AUDIT)


def test_what_an_aborted_transaction_left_is_sent(place: Outbox) -> None:
    """Records of a transaction that the death of its leader left open are none."""
    (event,) = place.append("s", "a")
    message = to_message(event, place.key, SERVICE).to_kafka(b"s")
    with place.kafka.transactional_producer(place.transactional_id) as dead:
        dead._producer.begin_transaction()
        lost = dead.send(place.kafka.topic(BACKUP_EVENTS), message).result()
        with place.relay():
            place.wait_relayed()
    (record,) = place.on_topic()
    assert place.published() == [str(event.event_id)]
    assert record.offset > lost.offset
    assert len(place.on_topic(isolation="read_uncommitted")) == 2


def test_deaths_between_the_publishing_and_its_note_publish_nothing_twice(place: Outbox) -> None:
    """The leader's session dies in every third note, when its batch stands on the topic."""
    with place.connection() as conn:
        conn.execute(_DEADLY_NOTES)
    with place.relay():
        for burst in range(4):
            place.append(f"s{burst % 2}", f"{burst}-a", f"{burst}-b")
            place.wait_relayed()
    with place.connection() as conn:
        # A sequence counts what was rolled back, too.
        notes = conn.execute("SELECT last_value FROM backup.notes").fetchone()
    assert notes is not None
    assert notes[0] >= 8
    assert place.published() == place.to_publish()


# A log that was lost


def test_a_new_log_gets_what_comes_and_nothing_twice(place: Outbox) -> None:
    with place.relay():
        old = place.append("s", *(f"old-{n}" for n in range(8)))
        place.wait_relayed()
    last = place.on_topic()[-1].offset
    place.lose()
    with place.relay():
        new = place.append("s", "new-1", "new-2")
        place.wait_relayed()
    # By now the new log is longer than the lost one was: its end does not tell them apart.
    with place.kafka.producer() as other:
        for _ in range(last + 5):
            other.send_sync(
                place.kafka.topic(BACKUP_EVENTS),
                CloudEvent("x.v1", "/secryn/another", b"{}").to_kafka(),
            )
    place.forget(old[-1].position)
    with place.relay():
        new += place.append("s", "new-3")
        place.wait_relayed()
    ours = {str(event.event_id) for event in old + new}
    assert [found for found in place.published() if found in ours] == [
        str(event.event_id) for event in new
    ]


# Parts that are away, or busy


def test_another_services_open_transaction_is_waited_for(place: Outbox) -> None:
    """Two services share the audit topic: its tail cannot be read while one holds it open."""
    with place.relay():
        place.append("audit", "landed", topic=AUDIT)
        place.wait_relayed()
    place.forget(0)
    with place.kafka.transactional_producer(place.kafka.topic("restore.relay")) as other:
        with other.transaction():
            message = CloudEvent("x.v1", "/secryn/restore_service", b"{}").to_kafka()
            other.send(place.kafka.topic(AUDIT), message).result()
            with place.relay():
                time.sleep(1.5)
                assert place.relayed() == 0
        with place.relay():
            place.wait_relayed()
    own, _other = place.published(AUDIT)
    assert [own] == place.to_publish(AUDIT)


def _forward(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        target.close()


@contextmanager
def door(port: int, bootstrap: str) -> Iterator[None]:
    """Listen on ``port`` and lead every connection to the real Kafka."""
    host, _, real_port = bootstrap.partition(":")
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((host, int(real_port)))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_forward, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_kafka_that_is_away_is_waited_for(place: Outbox, kafka: TestKafka) -> None:
    (port,) = free_ports(1)
    settings = place.settings.model_copy(update={"bootstrap": f"127.0.0.1:{port}"})
    place.append("s", "a", "b")
    with place.relay(Kafka(settings, "test")):
        time.sleep(1.0)
        assert place.relayed() == 0
        place.append("s", "c")
        with door(port, kafka.bootstrap):
            place.wait_relayed()
    assert place.published() == place.to_publish()


def test_a_postgresql_that_is_away_is_waited_for(place: Outbox) -> None:
    name = psycopg.conninfo.conninfo_to_dict(place.dsn)["dbname"]
    elsewhere = psycopg.conninfo.make_conninfo(place.dsn, dbname="postgres")
    place.append("s", "a")
    with psycopg.connect(elsewhere, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        with place.relay():
            time.sleep(0.8)
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            place.wait_relayed()
    assert place.published() == place.to_publish()
