"""A service that is there before the projector has made the store's schema waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup_service.schedule.leader import ScheduleLeader
from backup_service.verification.worker import VerificationWorker
from backup_service.worker import BackupWorker
from serving.runtime import Worker
from shared.errors import LogLost
from shared.instance.position import read_position
from tests.backing import Backing
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

# Longer than a worker takes for its first look.
LOOK_S = 1.5


@pytest.fixture
def early(postgres: TestPostgres, kafka: TestKafka, tmp_path: Path) -> Iterator[Backing]:
    backing = Backing.create(postgres, kafka, tmp_path)
    with backing.stack:
        yield backing


@pytest.mark.parametrize("worker", [BackupWorker, ScheduleLeader, VerificationWorker])
def test_its_workers_wait_and_none_ends_the_process(
    early: Backing, worker: type[BackupWorker | ScheduleLeader | VerificationWorker]
) -> None:
    stop, ended = threading.Event(), threading.Event()

    def run(work: Worker) -> None:
        try:
            work(stop)
        finally:
            ended.set()

    thread = threading.Thread(target=run, args=(worker(early.context).run,), daemon=True)
    thread.start()
    assert not ended.wait(LOOK_S)
    with early.projector():
        assert not ended.wait(LOOK_S)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_it_says_what_is_missing_and_who_makes_it(early: Backing) -> None:
    with (
        early.context.pool.connection() as conn,
        pytest.raises(LogLost, match="no schema yet") as caught,
    ):
        read_position(conn)
    assert "projector" in caught.value.advice
