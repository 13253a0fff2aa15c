"""What a restore made void is counted once its end is on the log, or the report says why not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from restore_service import events as ev
from restore_service.events import stream_of
from restore_service.handlers.recover import recover_restores
from shared.eventstore import NewEvent
from shared.eventstore.store import Delivery
from shared.instance.events import Restored, RestoreStarted, SettingRemoved
from shared.instance.reading import ACTOR, EPOCH
from shared.kafka import Kafka
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS, ensure_topics
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path, kafka: TestKafka) -> Iterator[Restoring]:
    settings = kafka.settings()
    client = Kafka(settings, client_id="test")
    with client.admin() as admin:
        ensure_topics(admin, client.topic)
    made = Restoring.create(postgres, tmp_path, settings)
    yield made
    made.context.pool.close()


def nobody_lives(_: str) -> bool:
    return False


def completed(restoring: Restoring) -> str:
    """Store a restore that somebody else completed before its end was on the log."""
    restore_id = restoring.requested()
    outcome = {"epoch": 2, "fence_offset": 0, "kept_as": None}
    done = {"restore_id": restore_id, "duration_s": None, "epoch": 2, "proof": None, "voided": None}
    restoring.append(
        restore_id,
        NewEvent(RestoreStarted.TYPE, {"fence_no": 1}, INSTANCE_EVENTS),
        NewEvent(ev.CUT_OVER, {"restore_id": restore_id, "outcome": outcome}, RESTORE_EVENTS),
        NewEvent(Restored.TYPE, {}, INSTANCE_EVENTS),
        NewEvent(ev.COMPLETED, done, RESTORE_EVENTS),
    )
    return restore_id


def publish(restoring: Restoring, restore_id: str, fence_id: UUID | None = None) -> None:
    """Write a fence, a rude event and an end to the log, and note fence and end as published."""
    context = restoring.context
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.transaction("a test") as conn:
        stored = context.store.read_stream(conn, stream_of(restore_id))
    started = next(event for event in stored if event.type == RestoreStarted.TYPE)
    ended = next(event for event in stored if event.type == Restored.TYPE)
    places = {}
    with context.kafka.producer() as producer:
        for event_id, stands_for in (
            (fence_id or started.event_id, started), (uuid4(), None), (ended.event_id, ended),
        ):  # fmt: skip
            message = CloudEvent(
                type=SettingRemoved.TYPE, source="/rude", data=b"{}", id=event_id,
                extensions={EPOCH: "1", ACTOR: "rude"},
            )  # fmt: skip
            offset = producer.send_sync(topic, message.to_kafka())
            if stands_for is not None:
                places[stands_for] = Delivery(topic, offset)
    with context.transaction("a test") as conn:
        context.store.note_relayed(conn, 0, places)


def report(restoring: Restoring, restore_id: str) -> dict[str, object]:
    with restoring.context.transaction("a test") as conn:
        return restoring.context.history.get(conn, restore_id)


def test_it_is_counted_when_the_end_is_on_the_log_and_only_once(restoring: Restoring) -> None:
    restore_id = completed(restoring)
    recover_restores(restoring.context, nobody_lives)
    assert report(restoring, restore_id)["voided"] is None
    publish(restoring, restore_id)
    for _ in range(2):
        recover_restores(restoring.context, nobody_lives)
    voided = report(restoring, restore_id)["voided"]
    assert isinstance(voided, dict)
    assert (voided["total"], voided["by_actor"]) == (1, {"rude": 1})
    assert restoring.types(restore_id).count(ev.VOIDED_COUNTED) == 1


def test_of_a_log_that_is_lost_the_report_says_so_and_nobody_asks_again(
    restoring: Restoring,
) -> None:
    restore_id = completed(restoring)
    publish(restoring, restore_id, fence_id=uuid4())
    for _ in range(2):
        recover_restores(restoring.context, nobody_lives)
    found = report(restoring, restore_id)
    assert (found["voided"], found["voided_fault"]) == (None, "log.lost")
    assert restoring.types(restore_id).count(ev.VOIDED_COUNTED) == 1
