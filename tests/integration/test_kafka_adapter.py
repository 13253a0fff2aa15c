"""The adapter over the Kafka client, against a real broker: what the protocols rely on."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.embedded.process import free_ports
from serving.checks import TopicCheck
from serving.runtime import ServiceRuntime
from shared.errors import (
    AccessError,
    KafkaUnavailable,
    LogLost,
    UnknownSetting,
    ValueTooLarge,
)
from shared.kafka import Kafka, LogAdmin, OutgoingMessage, TopicSpec
from shared.kafka.reader import to_record
from shared.messages.topics import AUDIT, INSTANCE_EVENTS, TOPICS, check_topics, ensure_topics
from shared.settings import HttpSettings
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


# Records


def test_a_record_is_read_as_it_was_sent(client: Kafka, topic: str) -> None:
    headers = (("a", b"1"), ("a", b"2"), ("empty", b""), ("ä", b"\xff"))
    with client.producer() as producer, client.log_reader(topic) as reader:
        first = producer.send_sync(topic, OutgoingMessage(b"k", b"\x00\xff", headers))
        second = producer.send(topic, OutgoingMessage(None, b"", ())).result()
        assert (first, second.topic, second.partition, second.offset) == (0, topic, 0, 1)
        reader.seek(0)
        found = eventually(lambda: reader.poll(100, 1.0).records, "records are read")
        one, two = found if len(found) == 2 else [*found, *reader.poll(100, 5.0).records]
    assert (one.topic, one.partition, one.offset) == (topic, 0, 0)
    assert (one.key, one.value, one.headers) == (b"k", b"\x00\xff", headers)
    assert (two.offset, two.key, two.value, two.headers) == (1, None, b"", ())
    assert abs(one.timestamp_ms / 1000 - time.time()) < 60


def test_a_header_without_a_value_is_an_empty_one() -> None:
    """Other clients write null there, which Kafka allows."""
    raw = SimpleNamespace(
        topic="t", partition=0, offset=1, timestamp=2, key=None, value=None,
        headers=[("ce_id", None), ("b", b"2")],
    )  # fmt: skip
    assert to_record(raw).headers == (("ce_id", b""), ("b", b"2"))


def test_an_empty_log_is_read_from_its_beginning(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    assert (admin.beginning_offset(topic), admin.high_watermark(topic)) == (0, 0)
    with client.log_reader(topic) as reader:
        reader.seek(0)
        batch = reader.poll(10, 0.2)
    assert (batch.records, batch.next_offset) == ([], 0)


# A log that is not what it should be


@pytest.mark.parametrize("start", [1, 1_000_000])
def test_a_position_outside_of_the_log_is_never_reset(
    client: Kafka, topic: str, start: int
) -> None:
    with client.log_reader(topic) as reader:
        reader.seek(start)
        with pytest.raises(LogLost):
            for _ in range(20):
                reader.poll(10, 0.5)


def test_a_reader_that_was_not_told_where_to_read_reads_nothing(client: Kafka, topic: str) -> None:
    with client.producer() as producer:
        producer.send_sync(topic, message())
    with client.log_reader(topic) as reader, pytest.raises(LogLost):
        for _ in range(20):
            assert reader.poll(10, 0.5).records == []


def test_two_topics_are_two_logs(client: Kafka, admin: LogAdmin, topic: str) -> None:
    admin.ensure_topic(TopicSpec(client.topic("another")))
    one, two = admin.log_identity(topic), admin.log_identity(client.topic("another"))
    assert one == admin.log_identity(topic)
    assert one.cluster_id == two.cluster_id
    assert one.topic_id != two.topic_id
    with pytest.raises(KafkaUnavailable, match="does not exist"):
        admin.log_identity(client.topic("nowhere"))


# Topics and their settings


def test_every_topic_is_made_as_it_must_be_and_found_so_again(
    client: Kafka, admin: LogAdmin
) -> None:
    with pytest.raises(UnknownSetting, match=f"{AUDIT} does not exist"):
        check_topics(admin, client.topic, [AUDIT])
    ensure_topics(admin, client.topic)
    ensure_topics(admin, client.topic)
    check_topics(admin, client.topic, list(TOPICS))


@pytest.mark.parametrize(
    ("partitions", "configs", "named"),
    [
        (2, TOPICS[INSTANCE_EVENTS], "has 2 partitions, it must have 1"),
        (1, {}, "has retention.ms=604800000, it must be -1"),
        (
            1,
            TOPICS[INSTANCE_EVENTS] | {"cleanup.policy": "compact"},
            "has cleanup.policy=compact, it must be delete",
        ),
        (
            1,
            TOPICS[INSTANCE_EVENTS] | {"message.timestamp.type": "CreateTime"},
            "has message.timestamp.type=CreateTime, it must be LogAppendTime",
        ),
    ],
    ids=["partitions", "retention", "compaction", "timestamps"],
)
def test_a_topic_of_other_settings_is_refused_by_name(
    client: Kafka, admin: LogAdmin, partitions: int, configs: dict[str, str], named: str
) -> None:
    name = client.topic(INSTANCE_EVENTS)
    admin.ensure_topic(TopicSpec(name, partitions, configs))
    with pytest.raises(UnknownSetting, match=f"the topic {name} {named}"):
        check_topics(admin, client.topic, [INSTANCE_EVENTS])
    with pytest.raises(UnknownSetting, match=f"the topic {name} {named}"):
        ensure_topics(admin, client.topic)


def test_a_service_waits_for_its_topics_and_ends_where_one_is_wrong(
    client: Kafka, admin: LogAdmin, capsys: pytest.CaptureFixture[str], own_signals: None
) -> None:
    check = TopicCheck(client, [INSTANCE_EVENTS])
    runtime = ServiceRuntime("test")
    runtime.add_worker("topics", check.run)
    threading.Timer(
        0.2, lambda: admin.ensure_topic(TopicSpec(client.topic(INSTANCE_EVENTS), 2, {}))
    ).start()
    http = HttpSettings(port=0, token_file=Path("/nowhere"))
    assert runtime.run(lambda _environ, _start: [], http) == UnknownSetting.exit_code
    assert "has 2 partitions, it must have 1" in "".join(capsys.readouterr())


# Who may not, what is too large, who is not there


def test_a_user_without_rights_is_told_so(kafka: TestKafka, client: Kafka, topic: str) -> None:
    stranger = Kafka(kafka.settings("platform", client.settings.topic_prefix), "test")
    with stranger.producer() as producer, pytest.raises(AccessError, match="denies"):
        producer.send_sync(topic, message())
    with pytest.raises(AccessError, match="denies"):
        stranger.transactional_producer(client.topic("tx"))
    with stranger.log_reader(topic) as reader, pytest.raises(AccessError, match="denies"):
        reader.seek(0)
        reader.poll(1, 5.0)
    with (
        stranger.group_consumer([topic], client.topic("group")) as consumer,
        pytest.raises(AccessError, match="denies"),
    ):
        consumer.poll(5.0)
    with stranger.admin() as admin:
        with pytest.raises(AccessError, match="denies"):
            admin.check_topic(TopicSpec(topic))
        with pytest.raises(AccessError, match="denies"):
            admin.ensure_topic(TopicSpec(client.topic("new")))
        with pytest.raises(AccessError, match="denies"):
            admin.log_identity(topic)
        with pytest.raises(AccessError, match="denies"):
            admin.high_watermark(topic)


def test_a_record_too_large_is_its_senders_fault(
    client: Kafka, admin: LogAdmin, topic: str
) -> None:
    with client.producer() as producer:
        with pytest.raises(ValueTooLarge):
            producer.send_sync(topic, message(b"x" * (1024 * 1024)))
        assert producer.send_sync(topic, message(b"x" * (1024 * 1024 - 200))) == 0
    # An operator's own limit is the broker's to know.
    small = TopicSpec(client.topic("small"), 1, {"max.message.bytes": "2000"})
    admin.ensure_topic(small)
    with client.producer() as producer, pytest.raises(ValueTooLarge):
        producer.send_sync(small.name, message(b"x" * 3000))


@pytest.mark.parametrize("part", ["admin", "log_reader", "group_consumer", "producer"])
def test_a_broker_that_is_not_there_is_unavailable_and_costs_nothing_to_try(
    client: Kafka, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A record of what went wrong would keep it, with the sockets in it, for as long as the test.
    caplog.set_level(logging.CRITICAL + 1, logger="kafka")
    (port,) = free_ports(1)
    settings = client.settings.model_copy(update={"bootstrap": f"127.0.0.1:{port}"})
    away = Kafka(settings, f"away for {part}").within(0.3)
    arguments: dict[str, tuple[object, ...]] = {
        "log_reader": ("log",), "group_consumer": (["log"], "group"),
    }  # fmt: skip

    def tried() -> int:
        """Try, and return how many files and sockets are open afterwards."""
        with pytest.raises(KafkaUnavailable):
            getattr(away, part)(*arguments.get(part, ()))
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    first = tried()
    assert [tried(), tried()] == [first, first]
    assert not [t for t in threading.enumerate() if t.name.endswith(f"away for {part}")]
