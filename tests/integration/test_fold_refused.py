"""A fold that meets an event which the store refuses ends there, and names it without its values."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from shared.errors import EventUnstorable
from shared.instance.events import ProjectCreated, encode
from shared.instance.migrate import migrate
from shared.instance.reading import ACTOR, EPOCH
from shared.instance.replay import replay
from shared.instance.retrace import Stretch
from shared.messages import CloudEvent
from tests.plugins.instance import TestInstance
from tests.plugins.postgres import TestPostgres


def wrote(instance: TestInstance, name: str) -> int:
    event = ProjectCreated(id=uuid4(), name=name)
    message = CloudEvent(
        type=event.TYPE,
        source="/test",
        data=encode(event),
        extensions={EPOCH: "1", ACTOR: "tester"},
    )
    return instance.send(message.to_kafka())


def test_the_offset_is_named_and_how_far_one_may_roll_forward(
    instance: TestInstance, postgres: TestPostgres
) -> None:
    first = wrote(instance, "one")
    refused = wrote(instance, "a private name")
    last = wrote(instance, "another")
    place = postgres.fresh_place()
    with psycopg.connect(place.dsn("secryn_projector")) as conn:
        migrate(conn, "instance")
        conn.execute(
            "ALTER TABLE instance.projects ADD CONSTRAINT odd CHECK (name <> 'a private name')"
        )
        conn.commit()
        with instance.kafka.log_reader(instance.topic) as reader:
            with pytest.raises(EventUnstorable, match=f"offset {refused}") as found:
                replay(
                    conn, "instance", reader, instance.issuers, [Stretch(first, last + 1, 1)],
                    on_progress=lambda _: None,
                )  # fmt: skip
            assert found.value.advice == f"Roll forward to offset {refused}, or to one before it."
            assert "private" not in str(found.value)
            names = {row[0] for row in conn.execute("SELECT name FROM instance.projects")}
    assert names == {"one"}
