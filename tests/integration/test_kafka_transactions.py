"""Transactions on a real broker, as the protocols rely on them: whole, fenced, counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from shared.errors import KafkaUnavailable, ProducerFenced
from shared.kafka import Kafka, LogAdmin, LogReader, OutgoingMessage, TopicSpec
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka

LOG = "log"


@pytest.fixture
def client(kafka: TestKafka) -> Kafka:
    return Kafka(kafka.settings(), "test")


@pytest.fixture
def admin(client: Kafka) -> Iterator[LogAdmin]:
    with client.admin() as admin:
        yield admin


@pytest.fixture
def topic(client: Kafka, admin: LogAdmin) -> str:
    admin.ensure_topic(TopicSpec(client.topic(LOG)))
    return client.topic(LOG)


def message(body: bytes = b"x") -> OutgoingMessage:
    return OutgoingMessage(b"key", body, (("name", b"value"),))


def read(reader: LogReader, start: int, end: int) -> tuple[list[bytes], list[int]]:
    """Read from ``start`` up to ``end``; return the bodies and the position after each poll."""
    reader.seek(start)
    bodies, positions = list[bytes](), [start]
    deadline = time.monotonic() + 20
    while positions[-1] < end:
        assert time.monotonic() < deadline, positions
        batch = reader.poll(100, 0.5)
        bodies += [record.value or b"" for record in batch.records]
        positions.append(batch.next_offset)
    return bodies, positions


def test_a_transaction_is_seen_whole_or_not_at_all(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    with (
        client.transactional_producer(client.topic("tx")) as producer,
        client.log_reader(topic) as reader,
    ):
        with producer.transaction():
            offsets = [producer.send(topic, message(b"%d" % n)).result().offset for n in range(3)]
            reader.seek(0)
            assert reader.poll(10, 0.5).records == []
        with pytest.raises(ZeroDivisionError), producer.transaction():
            producer.send(topic, message(b"aborted")).result()
            raise ZeroDivisionError
        with producer.transaction():
            producer.send(topic, message(b"after")).result()
        end = admin.high_watermark(topic)
        bodies, _ = read(reader, 0, end)
    assert offsets == [0, 1, 2]
    assert bodies == [b"0", b"1", b"2", b"after"]
    # Three records and a marker, one and a marker, one and a marker.
    assert end == 8


def test_the_position_moves_past_markers_and_aborted_runs(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    """Nothing is returned there, and still the next offset to read is behind it."""
    with client.producer() as plain:
        plain.send_sync(topic, message(b"first"))
    with client.transactional_producer(client.topic("tx")) as producer:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), producer.transaction():
                for sent in [producer.send(topic, message(b"aborted")) for _ in range(5)]:
                    sent.result()
                raise ZeroDivisionError
    end = admin.high_watermark(topic)
    assert end == 1 + 3 * 6
    with client.log_reader(topic) as reader:
        bodies, positions = read(reader, 1, end)
        assert bodies == []
        assert positions[-1] == end
        bodies, positions = read(reader, 0, end)
        assert bodies == [b"first"]
    with client.log_reader(topic, isolation="read_uncommitted") as reader:
        bodies, _ = read(reader, 0, end)
        assert bodies == [b"first"] + [b"aborted"] * 15


def test_the_stable_end_lies_before_what_was_acknowledged_behind_an_open_transaction(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    with (
        client.transactional_producer(client.topic("tx")) as producer,
        client.producer() as plain,
        client.log_reader(topic) as reader,
    ):
        with producer.transaction():
            opened = producer.send(topic, message(b"inside")).result().offset
            acknowledged = plain.send_sync(topic, message(b"acknowledged"))
            assert admin.high_watermark(topic) == acknowledged + 1
            assert admin.last_stable_offset(topic) == opened
            reader.seek(0)
            assert reader.poll(10, 0.5).next_offset == opened
        # The mark of the commit lands a moment after the commit returned.
        marked = acknowledged + 2
        assert eventually(lambda: admin.last_stable_offset(topic) == marked, "the end is stable")
        assert read(reader, 0, marked)[0] == [b"inside", b"acknowledged"]


@pytest.mark.parametrize("late", [0, 1])
def test_a_zombie_is_fenced(client: Kafka, admin: LogAdmin, topic: str, late: int) -> None:
    """Whether it commits what it has open or sends some more, and when it begins anew."""
    identity = client.topic("tx")
    with client.transactional_producer(identity) as zombie:
        with pytest.raises(ProducerFenced), zombie.transaction():
            zombie.send(topic, message(b"open")).result()
            with client.transactional_producer(identity) as successor, successor.transaction():
                successor.send(topic, message(b"of the successor")).result()
            for _ in range(late):
                zombie.send(topic, message(b"late")).result()
        # The client is in a state that it does not leave; all that counts is that nothing lands.
        with pytest.raises((ProducerFenced, KafkaUnavailable)), zombie.transaction():
            zombie.send(topic, message(b"later")).result()
    with client.log_reader(topic) as reader:
        assert read(reader, 0, admin.high_watermark(topic))[0] == [b"of the successor"]


def test_a_taken_over_id_ends_what_was_left_open(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    with client.transactional_producer(client.topic("tx")) as dead:
        dead._producer.begin_transaction()
        dead.send(topic, message(b"left open")).result()
        assert admin.last_stable_offset(topic) == 0
        with client.transactional_producer(client.topic("tx")):
            end = admin.high_watermark(topic)
            eventually(lambda: admin.last_stable_offset(topic) == end, "it is ended")


def test_another_id_fences_nobody(client: Kafka, topic: str) -> None:
    with (
        client.transactional_producer(client.topic("tx-1")) as one,
        client.transactional_producer(client.topic("tx-2")) as two,
    ):
        for producer in (one, two, one):
            with producer.transaction():
                producer.send(topic, message()).result()
