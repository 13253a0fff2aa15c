"""When the status says that the store stands still, and when it only waits, or is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from backup_service.instance_view import show_status
from backup_service.standstill import STILL_AFTER_S, Standstill
from shared.instance.events import (
    LogSource,
    ProjectCreated,
    Restored,
    RestoreStarted,
    encode,
)
from shared.instance.position import read_position
from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent
from tests.backing import Backing
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres


class Ahead:
    """The monotonic clock, and what is passed by hand."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.passed_s


@pytest.fixture
def ahead() -> Ahead:
    return Ahead()


@pytest.fixture
def backing(
    postgres: TestPostgres, kafka: TestKafka, tmp_path: Path, ahead: Ahead
) -> Iterator[Backing]:
    made = Backing.create(postgres, kafka, tmp_path)
    made.context = replace(made.context, standstill=Standstill(ahead))
    with made.stack:
        with made.projector():
            made.writer.wait_until_stored(made.add("before"), 20)
        yield made


@pytest.fixture
def look(backing: Backing, ahead: Ahead) -> Callable[[], dict[str, Any]]:
    """Look once, and once more when so long has passed that a store stands still."""

    def twice() -> dict[str, Any]:
        assert show_status(backing.context)["stands_still"] is False
        ahead.passed_s += STILL_AFTER_S
        return show_status(backing.context)

    return twice


def message(name: str) -> OutgoingMessage:
    event = ProjectCreated(id=uuid4(), name=name)
    extensions = {"epoch": "1", "actor": "x"}
    return CloudEvent(
        type=event.TYPE, source="/x", data=encode(event), extensions=extensions
    ).to_kafka()


def test_a_store_without_its_projector_stands_still_until_it_goes_on(
    backing: Backing, look: Callable[[], dict[str, Any]]
) -> None:
    assert look()["stands_still"] is False, "the log has nothing for it"
    written = backing.add("unseen")
    found = look()
    assert found["stands_still"] is True
    assert 0 < found["lag"] < 10
    with backing.projector():
        backing.writer.wait_until_stored(written, 20)
        assert look()["stands_still"] is False


def test_a_store_that_moves_between_two_looks_only_is_late(backing: Backing, ahead: Ahead) -> None:
    for name in ("one", "two", "three"):
        written = backing.add(name)
        assert show_status(backing.context)["stands_still"] is False
        with backing.projector():
            backing.writer.wait_until_stored(written, 20)
        backing.add(f"behind {name}")
        ahead.passed_s += STILL_AFTER_S
        found = show_status(backing.context)
        assert (found["stands_still"], found["lag"] > 0) == (False, True)


def test_what_an_open_transaction_holds_back_is_no_standstill(
    backing: Backing, look: Callable[[], dict[str, Any]]
) -> None:
    kafka = backing.context.kafka
    with backing.projector(), kafka.transactional_producer(kafka.topic("open")) as producer:
        with producer.transaction():
            offset = producer.send(backing.topic, message("inside")).result().offset
            eventually(lambda: position(backing) >= offset, "the store has what it can have")
            found = look()
        assert (found["stands_still"], found["lag"] > 0) == (False, True)


def position(backing: Backing) -> int:
    with backing.context.pool.connection() as conn:
        return read_position(conn).position


def test_a_rebuild_stands_behind_its_fence_and_is_no_standstill(
    backing: Backing, look: Callable[[], dict[str, Any]]
) -> None:
    """It is one transaction: until its end the row is where the restore was begun."""
    restore_id = uuid4()
    started = RestoreStarted(restore_id=restore_id, fence_no=1, backup_id=uuid4())
    with backing.projector():
        fence = backing.send(announcement(started), backing.restorer)
        eventually(lambda: show_status(backing.context)["fenced"], "the fence stands")
        with psycopg.connect(backing.place.dsn()) as blocking:
            row = read_position(blocking)
            blocking.execute("LOCK TABLE instance.projects IN SHARE MODE")
            source = LogSource(
                cluster_id=str(row.cluster_id), topic_id=str(row.topic_id), snapshot_offset=0,
                position=fence,
            )  # fmt: skip
            restored = Restored(
                restore_id=restore_id, fence_no=1, fence_offset=fence, epoch=2,
                backup_id=uuid4(), source=source,
            )  # fmt: skip
            end = backing.send(announcement(restored), backing.restorer)
            eventually(lambda: waits_for_a_lock(blocking), "the rows are made anew")
            found = look()
            assert (found["stands_still"], found["fenced"]) == (False, True)
            assert found["high_watermark"] > found["position"]
        eventually(lambda: position(backing) > end, "it is rebuilt")
    assert show_status(backing.context)["epoch"] == 2


def announcement(event: RestoreStarted | Restored) -> CloudEvent:
    return CloudEvent(type=event.TYPE, source="/secryn/restore", data=encode(event))


def waits_for_a_lock(conn: psycopg.Connection[Any]) -> bool:
    waiting = (
        "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'instance.projects'::regclass"
    )
    return conn.execute(waiting).fetchone() is not None
