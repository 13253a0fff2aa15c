"""Whose log is it? What the store was not folded from is never folded, and nothing is reset."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from kafka.admin import KafkaAdminClient

from shared.errors import LogLost
from shared.instance.events import ProjectCreated
from shared.instance.position import LogPosition, read_position, write_position
from shared.messages.topics import ensure_topics
from tests.plugins.instance import TestInstance, eventually


def project(name: str) -> ProjectCreated:
    return ProjectCreated(id=uuid4(), name=name)


def fill(instance: TestInstance) -> LogPosition:
    with instance.projector():
        for number in range(3):
            written = instance.writer.append(project(f"p{number}"))
        return instance.wait_stored(written.offset)


def change_position(instance: TestInstance, **changes: object) -> LogPosition:
    with psycopg.connect(instance.dsn) as conn:
        changed = replace(read_position(conn, lock=True), **changes)  # type: ignore[arg-type]
        write_position(conn, changed)
    return changed


def replace_topic(instance: TestInstance) -> None:
    """Delete the log and make another of the same name."""
    admin = KafkaAdminClient(
        bootstrap_servers=instance.settings.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username=instance.settings.username,
        sasl_plain_password=instance.settings.password_file.read_text(),  # type: ignore[union-attr]
    )
    admin.delete_topics([instance.topic])
    admin.close()

    def made() -> bool:
        with instance.kafka.admin() as ours:
            try:
                ensure_topics(ours, instance.kafka.topic)
            except Exception:
                return False
            return True

    eventually(made, "the topic is there again")


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster_id": "another"},
        {"topic_id": str(uuid4())},
        {"position": 4000},
        {"last_event_id": uuid4()},
        {"last_offset": 0},
    ],
    ids=["cluster", "topic", "outside", "event", "offset"],
)
def test_another_log_is_named_and_left_alone(
    instance: TestInstance, changes: dict[str, object]
) -> None:
    fill(instance)
    wrong = change_position(instance, **changes)
    # Where the offset itself gives it away, the writer is told at once.
    with pytest.raises(LogLost) if "position" in changes else nullcontext():
        instance.writer.append(project("not for this store"))
    with instance.projector() as projector:
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert stopped.code == LogLost.code
        assert projector.status.fault() is not None
    assert instance.position() == wrong
    assert instance.rows("SELECT count(*) FROM instance.projects") == [(3,)]


def test_it_goes_on_by_itself_when_the_right_log_is_back(instance: TestInstance) -> None:
    right = fill(instance)
    change_position(instance, topic_id=str(uuid4()))
    with instance.projector() as projector:
        projector.wait_stopped()
        change_position(instance, topic_id=right.topic_id)
        written = instance.writer.append(project("later"))
        instance.wait_stored(written.offset)
        eventually(lambda: projector.status.fault() is None, "it is ready again")


def test_a_log_replaced_under_a_running_projector_is_noticed(instance: TestInstance) -> None:
    before = fill(instance)
    with instance.projector() as projector:
        replace_topic(instance)
        stopped = projector.wait_stopped().stopped
        assert stopped is not None
        assert stopped.code == LogLost.code
    assert instance.position() == before
