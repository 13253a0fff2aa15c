"""The relay: what is stored is published, in its order, signed, and not twice on a topic."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from deploy.embedded.process import free_ports
from shared.database import Lock, try_lock
from shared.errors import ProducerFenced, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent
from shared.eventstore.relay import to_message
from shared.kafka import Kafka, Record
from shared.messages import CloudEvent, Issuer, IssuerRegistry, verify
from shared.messages.topics import AUDIT, BACKUP_EVENTS
from tests.outbox import META, SERVICE, Outbox
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def place(kafka: TestKafka, postgres: TestPostgres, tmp_path: Path) -> Outbox:
    return Outbox.create(kafka, postgres, tmp_path)


def ids(records: list[Record]) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in records]


def published(place: Outbox, topic: str = BACKUP_EVENTS) -> list[str]:
    return ids(place.on_topic(topic))


def stored(place: Outbox, topic: str = BACKUP_EVENTS) -> list[str]:
    return [str(event.event_id) for event in place.stored() if event.topic == topic]


def forget(place: Outbox, after: int) -> None:
    """Take back what was noted behind a position: the leader died before it could note it."""
    with place.connection() as conn:
        conn.execute("DELETE FROM backup.deliveries WHERE position > %s", (after,))
        conn.execute("UPDATE backup.relay SET position = %s", (after,))


@contextmanager
def session_of_the_leader(place: Outbox) -> Iterator[int]:
    """Yield the backend that holds the relay's lock."""
    query = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with place.connection() as conn:
        conn.autocommit = True
        (pid,) = eventually(
            lambda: conn.execute(query, (Lock.BACKUP_RELAY,)).fetchone(), "somebody leads"
        )
        yield pid


# What is published


def test_what_is_stored_is_published_in_its_order(place: Outbox) -> None:
    place.append("a", *[f"before-{n}" for n in range(230)])
    place.append("audit", "x", "y", topic=AUDIT)
    place.append("inside", "never", topic=None)
    with place.relay():
        place.wait_relayed()
        for n in range(10):
            place.append(f"s{n % 3}", f"during-{n}")
        place.append("audit", "z", topic=AUDIT)
        place.wait_relayed()
    assert published(place) == stored(place)
    assert published(place, AUDIT) == stored(place, AUDIT)
    assert len(stored(place)) == 240
    assert len(stored(place, AUDIT)) == 3


def test_what_was_never_committed_is_never_published(place: Outbox) -> None:
    with place.relay():
        with place.connection() as conn:
            place.store.append(conn, "s", 0, [NewEvent("x.v1", {}, BACKUP_EVENTS)], META)
            time.sleep(0.3)
            conn.rollback()
        place.append("s", "kept")
        place.wait_relayed()
    (record,) = place.on_topic(isolation="read_uncommitted")
    assert json.loads(record.value or b"") == {"name": "kept"}


def test_the_noted_place_is_where_the_event_stands(place: Outbox) -> None:
    with place.relay():
        for n in range(5):
            place.append("s", f"{n}-a", f"{n}-b")
            place.append("audit", f"{n}", topic=AUDIT)
            place.wait_relayed()
    for topic in (BACKUP_EVENTS, AUDIT):
        records = place.on_topic(topic)
        with place.connection() as conn:
            noted = [
                place.store.delivery(conn, event.event_id)
                for event in place.stored()
                if event.topic == topic
            ]
            last = place.store.last_offset(conn, place.kafka.topic(topic))
        assert [d and (d.topic, d.offset) for d in noted] == [(r.topic, r.offset) for r in records]
        assert last == records[-1].offset


def test_a_message_is_a_signed_cloud_event_in_binary_mode(place: Outbox) -> None:
    data = {"text": "ä\U0001f512", "deep": [{"n": 1}]}
    new = NewEvent("com.secryn.backup.created.v1", data, BACKUP_EVENTS, {"epoch": "4"})
    meta = EventMeta("alice", "corr-7", "cause-7")
    with place.connection() as conn:
        (event,) = place.store.append(conn, "backup-1", 0, [new], meta)
    with place.relay():
        place.wait_relayed()
    (record,) = place.on_topic()
    headers = dict(record.headers)
    assert record.key == b"backup-1"
    assert json.loads(record.value or b"") == data
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/json"
    message = CloudEvent.from_kafka(record)
    assert (message.id, message.type) == (event.event_id, event.type)
    assert (message.subject, message.source) == ("backup-1", f"/secryn/{SERVICE}")
    assert message.time == event.occurred_at
    assert message.extensions["correlationid"] == "corr-7"
    assert message.extensions["causationid"] == "cause-7"
    assert message.extensions["epoch"] == "4"
    version, trace, parent, flags = message.extensions["traceparent"].split("-")
    assert (version, len(trace), len(parent), flags) == ("00", 32, 16, "01")
    assert verify(message, place.registry).id == SERVICE
    with pytest.raises(SignatureInvalid):
        verify(replace(message, data=message.data.replace(b"1", b"2")), place.registry)
    stranger = IssuerRegistry({"another": Issuer("another", place.key.public)})
    with pytest.raises(SignatureInvalid):
        verify(message, stranger)


def test_one_request_is_one_trace(place: Outbox) -> None:
    first, second = place.append("s", "a", "b")
    traces = [
        to_message(event, place.key, SERVICE).extensions["traceparent"].split("-")
        for event in (first, second)
    ]
    assert traces[0][1] == traces[1][1]
    assert traces[0][2] != traces[1][2]


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
    forget(place, first.position)
    with place.relay():
        place.wait_relayed()
    assert (place.end(), place.end(AUDIT)) == ends
    assert published(place) == stored(place)
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
    forget(place, 0)
    with place.relay():
        place.wait_relayed()
    assert published(place) == stored(place)
    assert published(place, AUDIT) == stored(place, AUDIT)


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
    assert ids([record]) == [str(event.event_id)]
    assert record.offset > lost.offset
    assert len(place.on_topic(isolation="read_uncommitted")) == 2


def test_a_death_at_any_batch_publishes_everything_once(place: Outbox) -> None:
    """Its session is cut again and again while events come in."""
    done = threading.Event()

    def cut() -> None:
        while not done.wait(0.05):
            with session_of_the_leader(place) as pid, place.connection() as conn:
                conn.execute("SELECT pg_terminate_backend(%s)", (pid,))

    cutting = threading.Thread(target=cut)
    with place.relay():
        cutting.start()
        for n in range(60):
            place.append(f"s{n % 5}", f"{n}-a", f"{n}-b")
        done.set()
        cutting.join(30)
        place.wait_relayed()
    assert published(place) == stored(place)


# Who leads


def test_a_second_relay_waits_for_the_lock(place: Outbox) -> None:
    with ExitStack() as first, place.connection() as conn:
        first.enter_context(place.relay())
        place.append("s", "one")
        place.wait_relayed()
        assert not try_lock(conn, Lock.BACKUP_RELAY)
        with place.relay():
            time.sleep(0.8)
            # It has fenced nobody: the first goes on with the producer that it has.
            place.append("s", "two")
            place.wait_relayed()
            first.close()
            place.append("s", "three")
            place.wait_relayed()
    assert published(place) == stored(place)


def test_a_zombies_late_event_is_not_accepted(place: Outbox) -> None:
    """It read what is to be published, slept, and sends when another leads and has decided."""
    (event,) = place.append("s", "late")
    zombie = place.new_relay()
    with place.kafka.transactional_producer(place.transactional_id) as producer:
        with place.relay():
            place.wait_relayed()
        with pytest.raises(ProducerFenced):
            zombie._send(producer, [event])
    assert published(place) == [str(event.event_id)]


def test_a_zombie_in_the_middle_of_its_batch_commits_nothing(place: Outbox) -> None:
    """Its records stand on the topic when it is taken over; they never become visible."""
    (event,) = place.append("s", "a")
    message = to_message(event, place.key, SERVICE).to_kafka(b"s")
    with (
        place.kafka.transactional_producer(place.transactional_id) as producer,
        pytest.raises(ProducerFenced),
        producer.transaction(),
    ):
        producer.send(place.kafka.topic(BACKUP_EVENTS), message).result()
        with place.relay():
            place.wait_relayed()
    assert published(place) == [str(event.event_id)]


# Parts that are away, or busy


def test_another_services_open_transaction_is_waited_for(place: Outbox) -> None:
    """Two services share the audit topic: its tail cannot be read while one holds it open."""
    with place.relay():
        place.append("audit", "landed", topic=AUDIT)
        place.wait_relayed()
    forget(place, 0)
    with place.kafka.transactional_producer(place.kafka.topic("restore.relay")) as other:
        with other.transaction():
            message = CloudEvent("x.v1", "/secryn/restore_service", b"{}").to_kafka()
            other.send(place.kafka.topic(AUDIT), message).result()
            with place.relay():
                time.sleep(1.5)
                assert place.relayed() == 0
        with place.relay():
            place.wait_relayed()
    own, _other = published(place, AUDIT)
    assert [own] == stored(place, AUDIT)


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
    assert published(place) == stored(place)


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
    assert published(place) == stored(place)
