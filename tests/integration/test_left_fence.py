"""Which fences recovery lowers by itself, on a real PostgreSQL and a real log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from restore_service.handlers.finish import give_up
from restore_service.handlers.recover import recover_restores
from shared.errors import KafkaUnavailable, RestoreFailedError
from shared.kafka import Kafka
from shared.messages.topics import ensure_topics
from shared.settings import KafkaSettings
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring

NewRestoring = Callable[[KafkaSettings], Restoring]


@pytest.fixture
def new_restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[NewRestoring]:
    with ExitStack() as stack:

        def make(kafka: KafkaSettings) -> Restoring:
            made = Restoring.create(postgres, tmp_path, kafka)
            stack.callback(made.context.pool.close)
            return made

        yield make


@pytest.fixture
def restoring(new_restoring: NewRestoring, kafka: TestKafka) -> Restoring:
    settings = kafka.settings()
    client = Kafka(settings, client_id="test")
    with client.admin() as admin:
        ensure_topics(admin, client.topic)
    return new_restoring(settings)


def nobody_lives(_: str) -> bool:
    return False


def test_the_fence_of_an_aborted_restore_falls_without_a_projector(restoring: Restoring) -> None:
    # The projector is down for good, or its log is lost: a restore is the only way out.
    before = restoring.position()
    restore_id = restoring.requested()
    number = restoring.fenced(restore_id)
    give_up(restoring.context, restore_id, RestoreFailedError("no"), META)
    recover_restores(restoring.context, nobody_lives)
    after = restoring.position()
    assert not after.fenced
    assert after.highest_fence_no == number
    assert (after.position, after.epoch) == (before.position, before.epoch)


def test_a_fence_that_nobody_owns_falls_once_and_is_announced(restoring: Restoring) -> None:
    unknown = uuid4()
    restoring.take_row(unknown, 7)
    for _ in range(2):
        recover_restores(restoring.context, nobody_lives)
    with restoring.context.transaction("a test") as conn:
        (aborted,) = restoring.context.store.read_stream(conn, f"fence-{unknown}")
    assert aborted.data["fence_no"] == 7
    assert not restoring.position().fenced


def test_a_fence_stays_while_the_log_cannot_be_asked(new_restoring: NewRestoring) -> None:
    # What nobody here knows may have ended in Restored on the log: to lower it would be to guess.
    restoring = new_restoring(KafkaSettings(bootstrap="127.0.0.1:1"))
    restoring.take_row(uuid4(), 7)
    with pytest.raises(KafkaUnavailable):
        recover_restores(restoring.context, nobody_lives)
    assert restoring.position().fenced
