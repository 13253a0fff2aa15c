"""The barrier: everything acknowledged before it is in the store, or it says what it waited for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from shared.errors import BarrierTimeout, Interrupted, LogLost, RestoreInProgress
from shared.instance.barrier import wait_for_barrier
from shared.instance.events import ProjectCreated, encode
from shared.instance.position import LogPosition, read_position, write_position
from shared.kafka import OutgoingMessage
from shared.messages import CloudEvent
from tests.plugins.instance import TestInstance, eventually


def message(name: str) -> OutgoingMessage:
    event = ProjectCreated(id=uuid4(), name=name)
    return CloudEvent(
        type=event.TYPE, source="/x", data=encode(event), extensions={"epoch": "1", "actor": "x"}
    ).to_kafka()


def barrier(instance: TestInstance, timeout_s: float = 20) -> LogPosition:
    return wait_for_barrier(instance.kafka, instance.pool, timeout_s, threading.Event())


def names(instance: TestInstance) -> set[str]:
    return {name for (name,) in instance.rows("SELECT name FROM instance.projects")}


def test_what_was_acknowledged_before_is_in_the_store(instance: TestInstance) -> None:
    with instance.projector():
        for round_no in range(3):
            offsets = [instance.send(message(f"{round_no}-{n}")) for n in range(40)]
            row = barrier(instance)
            assert row.position > offsets[-1]
            assert len(names(instance)) == 40 * (round_no + 1)


def test_a_write_behind_an_open_transaction_is_waited_for(instance: TestInstance) -> None:
    """The read_committed end lies before it: a barrier at that end would miss the write."""
    with instance.projector(), ThreadPoolExecutor() as threads:
        barrier(instance)
        with instance.kafka.transactional_producer(
            f"{instance.settings.topic_prefix}open"
        ) as producer:
            with producer.transaction():
                producer.send(instance.topic, message("inside")).result()
                acknowledged = instance.send(message("acknowledged"))
                with instance.kafka.admin() as admin:
                    assert admin.last_stable_offset(instance.topic) < acknowledged
                waiting = threads.submit(barrier, instance)
                time.sleep(1.0)
                assert not waiting.done()
                assert names(instance) == set()
            row = waiting.result(timeout=20)
        assert row.position > acknowledged
        assert names(instance) == {"inside", "acknowledged"}


def test_a_time_out_names_the_open_transaction(instance: TestInstance) -> None:
    with instance.projector():
        barrier(instance)
        with (
            instance.kafka.transactional_producer(
                f"{instance.settings.topic_prefix}open"
            ) as producer,
            producer.transaction(),
        ):
            opened = producer.send(instance.topic, message("inside")).result().offset
            with pytest.raises(
                BarrierTimeout, match=f"a transaction .* open since offset {opened}$"
            ):
                barrier(instance, timeout_s=0.5)


def test_a_time_out_names_what_the_projector_has_not_folded(instance: TestInstance) -> None:
    with instance.projector():
        barrier(instance)
    first, last = instance.send(message("a")), instance.send(message("b"))
    with pytest.raises(BarrierTimeout, match=f"not folded offsets {first} to {last} yet"):
        barrier(instance, timeout_s=0.2)


def test_an_open_fence_is_a_restore_in_progress(instance: TestInstance) -> None:
    restore = uuid4()
    with instance.projector():
        offset = instance.started(1, restore)
        eventually(lambda: instance.position().fenced, "the fence stands")
        with pytest.raises(RestoreInProgress, match=f"{restore} .* offset {offset}"):
            barrier(instance)


def test_a_stopping_service_does_not_wait(
    instance: TestInstance,
) -> None:
    with instance.projector():
        barrier(instance)
    instance.send(message("a"))
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        wait_for_barrier(instance.kafka, instance.pool, 20, stop)


@pytest.mark.parametrize(
    "changes",
    [{"topic_id": str(uuid4())}, {"position": 4000}],
    ids=["another log", "a log that lost its end"],
)
def test_a_lost_log_has_no_point_to_wait_for(
    instance: TestInstance, changes: dict[str, object]
) -> None:
    with instance.projector():
        barrier(instance)
    # Its end lies before the position of the store: nothing seems to be missing.
    with psycopg.connect(instance.dsn) as conn:
        write_position(conn, replace(read_position(conn), **changes))  # type: ignore[arg-type]
    with pytest.raises(LogLost):
        barrier(instance)
