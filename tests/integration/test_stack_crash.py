"""After kill -9 of anything, the same state comes back with nothing acknowledged lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from deploy.embedded.process import mark_of
from tests.plugins.stack import StackUnderTest

PARTS = ("postgres", "kafka", "projector", "backup", "restore")
TOPIC = "test.kept"


def login(stack: StackUnderTest) -> dict[str, object]:
    settings = stack.kafka("admin")
    assert settings.password_file is not None
    return {
        "bootstrap_servers": settings.bootstrap,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password_file.read_text(),
    }


def write(stack: StackUnderTest, word: str) -> None:
    """Write a row and a record; both are acknowledged when this returns."""
    with psycopg.connect(stack.postgres_admin(), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [word])
    admin = KafkaAdminClient(**login(stack))
    if TOPIC not in admin.list_topics():
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
    admin.close()
    producer = KafkaProducer(**login(stack), acks="all")
    producer.send(TOPIC, word.encode()).get(timeout=20)
    producer.close()


def read(stack: StackUnderTest) -> tuple[list[str], list[str]]:
    """Return all rows and all records."""
    with psycopg.connect(stack.postgres_admin()) as connection:
        rows = [row[0] for row in connection.execute("SELECT word FROM kept ORDER BY ctid")]
    consumer = KafkaConsumer(**login(stack), auto_offset_reset="none", group_id=None)
    partition = TopicPartition(TOPIC, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    end = consumer.end_offsets([partition])[partition]
    records: list[str] = []
    while consumer.position(partition) < end:
        for batch in consumer.poll(timeout_ms=500).values():
            records += [record.value.decode() for record in batch]
    consumer.close()
    return rows, records


@pytest.mark.parametrize(
    "parts", [("projector", "backup", "restore"), ("postgres", "kafka")], ids="-".join
)
def test_killed_processes_are_started_again(
    running_stack: StackUnderTest, parts: tuple[str, ...]
) -> None:
    write(running_stack, parts[0])
    before = read(running_stack)
    killed = {running_stack.kill(part) for part in parts}
    found = running_stack.wait(
        lambda status: (
            bool(status["healthy"]) and not killed & {p["pid"] for p in status["processes"]}
        )
    )
    again = [process for process in found["processes"] if process["name"] in parts]
    assert all(process["restarts"] >= 1 for process in again)
    assert read(running_stack) == before


def test_a_lost_supervisor_is_told_and_up_brings_everything_back(
    running_stack: StackUnderTest,
) -> None:
    write(running_stack, "before the supervisor died")
    before = read(running_stack)
    pids = running_stack.pids()
    running_stack.kill("supervisor")
    assert running_stack.status()["state"] == "supervisor lost"
    found = running_stack.up()
    assert found["healthy"] is True
    assert not [pid for pid in pids.values() if mark_of(pid)]
    assert read(running_stack) == before


def test_everything_killed_at_once_comes_back(running_stack: StackUnderTest) -> None:
    write(running_stack, "before everything died")
    before = read(running_stack)
    pids = running_stack.pids()
    for pid in (pids.pop("supervisor"), *pids.values()):
        os.kill(pid, signal.SIGKILL)
    assert running_stack.wait(lambda status: status["state"] == "stopped")
    assert running_stack.up()["healthy"] is True
    assert read(running_stack) == before


def test_down_stops_what_a_lost_supervisor_left(running_stack: StackUnderTest) -> None:
    pids = running_stack.pids()
    running_stack.kill("supervisor")
    assert set(running_stack.down()["stopped"]) == set(PARTS)
    assert not [pid for pid in pids.values() if mark_of(pid)]
    assert running_stack.up()["healthy"] is True


def test_a_pid_of_a_stranger_is_never_taken_for_ours(running_stack: StackUnderTest) -> None:
    running_stack.down()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        record = {"pid": stranger.pid, "started": "another boot:1"}
        process = {
            "name": "kafka", "state": "healthy", "restarts": 0, "code": None, "reason": None,
            "endpoint": "127.0.0.1:1", "log_file": "kafka.log", **record,
        }  # fmt: skip
        document = {"supervisor": record, "phase": "running", "parts": [process]}
        (running_stack.state / "run" / "supervisor.json").write_text(json.dumps(document))
        data = running_stack.state / "postgres" / "data"
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n{data}\n1\n1\n\n127.0.0.1\n")
        assert running_stack.status()["state"] == "stopped"
        assert running_stack.up()["healthy"] is True
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_mark_survives_no_reuse_of_its_pid() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    mark = mark_of(process.pid)
    assert mark is not None
    assert mark.is_alive()
    process.kill()
    # A zombie until its parent has asked for its status: already not alive.
    assert mark.wait(5.0)
    process.wait()
    assert mark_of(process.pid) is None
