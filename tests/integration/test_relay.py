"""The relay: what is stored is published, in its order, signed, and not twice on a topic."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from shared.database import Lock, try_lock
from shared.errors import ProducerFenced, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent
from shared.eventstore.relay import to_message
from shared.messages import CloudEvent, Issuer, IssuerRegistry, verify
from shared.messages.topics import AUDIT, BACKUP_EVENTS
from tests.outbox import META, SERVICE, Outbox
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def place(kafka: TestKafka, postgres: TestPostgres, tmp_path: Path) -> Outbox:
    return Outbox.create(kafka, postgres, tmp_path)


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
    assert place.published() == place.to_publish()
    assert place.published(AUDIT) == place.to_publish(AUDIT)
    assert len(place.to_publish()) == 240
    assert len(place.to_publish(AUDIT)) == 3


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
            last = place.store.last_delivered(conn, place.kafka.topic(topic))
        assert [d and (d.topic, d.offset) for d in noted] == [(r.topic, r.offset) for r in records]
        assert last is not None
        assert last[1] == records[-1].offset


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
    assert place.published() == place.to_publish()


def test_a_zombies_late_event_is_not_accepted(place: Outbox) -> None:
    """It read what is to be published, slept, and sends when another leads and has decided."""
    (event,) = place.append("s", "late")
    zombie = place.new_relay()
    with place.kafka.transactional_producer(place.transactional_id) as producer:
        with place.relay():
            place.wait_relayed()
        with pytest.raises(ProducerFenced):
            zombie._send(producer, [event])
    assert place.published() == [str(event.event_id)]


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
    assert place.published() == [str(event.event_id)]
