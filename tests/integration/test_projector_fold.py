"""The projector: rows and offset together, whatever is on the log and however it is interrupted."""

from __future__ import annotations

import random
import time
from uuid import uuid4

import psycopg
import pytest

from shared.errors import EventUnstorable, MessageUnreadable
from shared.instance.digest import digest_schema
from shared.instance.events import ProjectCreated, VaultCreated, encode
from shared.instance.sample.load import load
from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent
from tests.plugins.instance import TestInstance, eventually
from tests.plugins.postgres import TestPostgres


def project(name: str) -> ProjectCreated:
    return ProjectCreated(id=uuid4(), name=name)


def digest(dsn: str) -> str:
    with psycopg.connect(dsn) as conn:
        return digest_schema(conn).digest


def test_a_poisoned_event_stops_it_with_offset_and_reason(instance: TestInstance) -> None:
    with instance.projector() as projector:
        good = instance.writer.append(project("good"))
        broken = CloudEvent(
            type=ProjectCreated.TYPE,
            source="/x",
            data=b'{"id": "not an id"}',
            extensions={"epoch": "1", "actor": "x"},
        )
        poisoned = instance.send(broken.to_kafka())
        instance.writer.append(project("after"))
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert (stopped.code, stopped.offset) == (MessageUnreadable.code, poisoned)
        assert "id: uuid_parsing" in stopped.reason
        assert "not an id" not in stopped.reason
        fault = projector.status.fault()
        assert fault is not None
        assert str(poisoned) in fault
        # Everything before is stored, nothing behind it is, and the position says so.
        assert instance.position().position == poisoned == good.offset + 1
        assert instance.rows("SELECT name FROM instance.projects") == [("good",)]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("ce_id", b"1"), ("ce_type", b"x"), ("ce_source", b"x"), ("ce_time", b"x")),
    ],
)
def test_what_is_no_cloudevent_stops_it_too(
    instance: TestInstance, headers: tuple[tuple[str, bytes], ...]
) -> None:
    with instance.projector() as projector:
        offset = instance.send(OutgoingMessage(None, b"{}", headers))
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert stopped.offset == offset


def test_an_event_that_the_store_refuses_is_found_among_others(instance: TestInstance) -> None:
    with instance.projector():
        pass
    with psycopg.connect(instance.dsn) as conn:
        conn.execute("ALTER TABLE instance.projects ADD CHECK (name <> 'refused')")
    names = [f"before-{number}" for number in range(5)] + ["refused", "after"]
    written = [instance.writer.append(project(name)) for name in names]
    with instance.projector() as projector:
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert (stopped.code, stopped.offset) == (EventUnstorable.code, written[5].offset)
        assert "23514" in stopped.reason
        assert "refused" not in stopped.reason.replace("store refuses", "")
    assert instance.rows("SELECT count(*) FROM instance.projects") == [(5,)]
    assert instance.position().position == written[5].offset


def test_a_contradiction_is_recorded_and_the_fold_goes_on(instance: TestInstance) -> None:
    with instance.projector() as projector:
        orphan = VaultCreated(id=uuid4(), project_id=uuid4(), name="orphan")
        rejected = instance.writer.append(orphan, actor="mallory")
        good = instance.writer.append(project("good"))
        instance.wait_stored(good.offset)
        assert instance.rows(
            "SELECT event_offset, event_type, code, actor FROM instance.rejections"
        ) == [(rejected.offset, VaultCreated.TYPE, "missing", "mallory")]
        assert instance.rows("SELECT name FROM instance.projects") == [("good",)]
        eventually(lambda: projector.now.rejected == 1, "the rejection is counted")
        assert projector.status.fault() is None


def test_events_of_another_epoch_are_skipped_and_counted(instance: TestInstance) -> None:
    with instance.projector():
        for epoch in ("7", "0"):
            stale = CloudEvent(
                type=ProjectCreated.TYPE,
                source="/x",
                data=encode(project("stale")) if epoch == "7" else b"not even JSON",
                extensions={"epoch": epoch, "actor": "x"},
            )
            instance.send(stale.to_kafka())
        good = instance.writer.append(project("good"))
        row = instance.wait_stored(good.offset)
    assert row.skipped == {"epoch": 2}
    assert instance.rows("SELECT name FROM instance.projects") == [("good",)]


def test_aborted_runs_and_markers_move_the_stored_position(instance: TestInstance) -> None:
    with instance.projector():
        good = instance.writer.append(project("good"))
        with (
            instance.kafka.transactional_producer(f"{instance.settings.topic_prefix}t") as producer,
            pytest.raises(RuntimeError),
            producer.transaction(),
        ):
            for _ in range(20):
                producer.send(instance.topic, event_message(project("never")))
            producer.flush()
            raise RuntimeError
        with instance.kafka.admin() as admin:
            end = admin.high_watermark(instance.topic)
        assert end == good.offset + 22
        row = instance.wait_stored(end - 1)
        assert row.position == end
        assert row.last_offset == good.offset
    # What was stored is where it goes on from.
    with instance.projector():
        more = instance.writer.append(project("more"))
        instance.wait_stored(more.offset)
    assert instance.rows("SELECT name FROM instance.projects ORDER BY 1") == [("good",), ("more",)]


def event_message(event: ProjectCreated) -> OutgoingMessage:
    return CloudEvent(
        type=event.TYPE, source="/x", data=encode(event), extensions={"epoch": "1", "actor": "x"}
    ).to_kafka()


def test_killed_at_any_moment_it_ends_at_the_same_state(
    instance: TestInstance, postgres: TestPostgres
) -> None:
    with instance.projector():
        pass
    load(instance.writer, seed=3, scale=1)
    last = instance.writer.append(project("last"))
    rng = random.Random(20261123)
    for _ in range(4):
        with instance.process(batch_events=25) as running:
            time.sleep(rng.uniform(0, 0.2))
            running.process.kill()
    # It was cut short in the middle, or this test shows nothing.
    assert 0 < instance.position().position <= last.offset
    with instance.projector():
        instance.wait_stored(last.offset)
    once = postgres.fresh_database()
    with instance.projector(dsn=once):
        instance.wait_stored(last.offset, dsn=once)
    assert digest(instance.dsn) == digest(once)
    assert instance.rows("SELECT count(*) FROM instance.rejections") == [(0,)]
