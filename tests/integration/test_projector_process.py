"""The projector as a process: its HTTP interface, its end, and parts that go away."""

from __future__ import annotations

import signal
from uuid import uuid4

import psycopg

from shared.instance.events import ProjectCreated, encode
from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent
from tests.plugins.instance import TestInstance, eventually


def project(name: str) -> ProjectCreated:
    return ProjectCreated(id=uuid4(), name=name)


def test_it_tells_where_it_is_and_ends_cleanly(instance: TestInstance) -> None:
    with instance.process() as running:
        written = instance.writer.append(project("p"))
        instance.wait_stored(written.offset)
        assert running.get("/healthz", token=False).status_code == 200
        assert running.get("/readyz", token=False).json() == {
            "service": "projector",
            "ready": True,
        }
        for path in ("/status", "/metrics"):
            assert running.get(path, token=False).status_code == 401
        status = eventually(
            lambda: (found := running.get("/status").json())["lag"] == 0 and found, "no lag"
        )
        row = instance.position()
        assert status["position"] == status["high_watermark"] == row.position == written.offset + 1
        assert status["log"] == {"cluster_id": row.cluster_id, "topic_id": row.topic_id}
        assert (status["epoch"], status["fence"], status["stopped"]) == (1, None, None)
        assert status["counts"]["applied"] == 1
        metrics = running.get("/metrics").text
        assert "secryn_projector_lag 0.0" in metrics
        assert "secryn_projector_applied_total 1.0" in metrics
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0
        assert '"event": "service.stopped"' in running.log.read_text()


def test_a_poisoned_event_is_seen_from_outside_and_the_process_stays(
    instance: TestInstance,
) -> None:
    with instance.process() as running:
        offset = instance.send(project_without_actor())
        eventually(lambda: not running.ready(), "it is not ready any more")
        found = running.get("/readyz").json()
        assert str(offset) in found["faults"]["projector"]
        status = running.get("/status").json()
        assert status["state"] == "stopped"
        assert status["stopped"]["code"] == "message.unreadable"
        assert status["stopped"]["offset"] == offset
        assert "no actor" in status["stopped"]["reason"]
        assert "secryn_projector_stopped 1.0" in running.get("/metrics").text
        assert running.process.poll() is None


def project_without_actor() -> OutgoingMessage:
    event = project("p")
    return CloudEvent(
        type=event.TYPE, source="/x", data=encode(event), extensions={"epoch": "1"}
    ).to_kafka()


def test_a_lost_connection_is_made_again(instance: TestInstance) -> None:
    with instance.projector() as projector:
        for number in range(3):
            with psycopg.connect(instance.dsn, autocommit=True) as conn:
                ended = conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'secryn projector'"
                    " AND datname = current_database()"
                ).fetchall()
            assert ended == [(True,)]
            written = instance.writer.append(project(f"p{number}"))
            instance.wait_stored(written.offset)
            eventually(lambda: projector.status.fault() is None, "it is ready again")
    assert instance.rows("SELECT count(*) FROM instance.projects") == [(3,)]


def test_two_projectors_store_every_event_once(instance: TestInstance) -> None:
    with instance.projector(batch_events=7), instance.projector(batch_events=11):
        for number in range(200):
            written = instance.writer.append(project(f"p{number}"))
        instance.wait_stored(written.offset)
    assert instance.rows("SELECT count(*) FROM instance.projects") == [(200,)]
    assert instance.rows("SELECT count(*) FROM instance.rejections") == [(0,)]
