"""`secryn up`, `status`, `down`: what they start, show, keep and refuse."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from deploy.embedded.folder import create_state
from deploy.embedded.process import mark_of
from shared.errors import StackStateInvalid
from tests.plugins.stack import StackUnderTest

NewStack = Callable[..., StackUnderTest]
PARTS = {"postgres", "kafka", "projector", "backup", "restore"}


def test_status_names_everything_that_a_client_needs(running_stack: StackUnderTest) -> None:
    found = running_stack.status()
    assert found["state"] == "running"
    assert found["healthy"] is True
    assert {process["name"] for process in found["processes"]} == PARTS
    assert all(process["health"] == "healthy" for process in found["processes"])
    assert all(psutil.pid_exists(process["pid"]) for process in found["processes"])
    assert Path(found["state_dir"]) == running_stack.state
    assert found["environment"] == "default"
    for name in ("backup_url", "restore_url"):
        with urllib.request.urlopen(found[name] + "/healthz", timeout=5) as answer:
            assert answer.status == 200
    host, port = found["kafka_bootstrap"].split(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def test_the_dsn_of_the_status_is_usable_as_it_stands(running_stack: StackUnderTest) -> None:
    with psycopg.connect(running_stack.status()["postgres_dsn"]) as connection:
        row = connection.execute("SELECT current_user, current_database()").fetchone()
    assert row == ("secryn_platform", "secryn")


def test_every_file_of_the_state_is_closed_to_others(running_stack: StackUnderTest) -> None:
    open_to_others = []
    for folder, folders, files in os.walk(running_stack.state):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                # What lies under a closed folder cannot be reached.
                if not path.parent.stat().st_mode & 0o077:
                    continue
                open_to_others.append(str(path))
    assert open_to_others == []
    assert not running_stack.state.stat().st_mode & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)


def test_no_password_stands_in_the_arguments_of_a_process(running_stack: StackUnderTest) -> None:
    secrets = [
        word
        for path in (running_stack.state / "credentials").iterdir()
        for word in [path.read_text().strip().split(":")[-1]]
    ] + [(running_stack.state / "token").read_text().strip()]
    for pid in running_stack.pids().values():
        arguments = " ".join(psutil.Process(pid).cmdline())
        assert not [secret for secret in secrets if secret in arguments]


def test_a_second_up_on_the_same_state_is_refused(running_stack: StackUnderTest) -> None:
    before = running_stack.pids()
    error = running_stack.refusal("up")
    assert error["code"] == "stack.already_running"
    assert running_stack.pids() == before


def test_two_ups_at_once_make_one_stack(new_stack: NewStack) -> None:
    stack = new_stack()
    argv = [sys.executable, "-m", "cli.main", "up", "--state", str(stack.state), "--json"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in "ab"]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    refused = [answer["error"]["code"] for answer in answers if "error" in answer]
    assert refused == ["stack.already_running"]
    assert stack.status()["healthy"] is True


def test_a_stack_comes_back_with_its_data_and_its_keys_and_avoids_a_port_taken_meanwhile(
    new_stack: NewStack,
) -> None:
    stack = new_stack()
    first = stack.up("--environment", "here")
    with psycopg.connect(stack.postgres_admin(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('still here')")
    keys = {path: path.read_bytes() for path in (stack.state / "keys").iterdir()}
    assert set(stack.down()["stopped"]) == PARTS
    assert stack.status()["state"] == "stopped"
    assert stack.down()["stopped"] == []

    port = int(first["backup_url"].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        done = stack.secryn("up")
    second = json.loads(done.stdout)
    for name in ("instance_id", "environment", "kafka_bootstrap", "restore_url", "postgres_dsn"):
        assert second[name] == first[name]
    assert f"port {port} is taken" in done.stderr
    assert second["backup_url"] != first["backup_url"]
    assert {path: path.read_bytes() for path in (stack.state / "keys").iterdir()} == keys
    with psycopg.connect(stack.postgres_admin()) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("still here",)


def test_stacks_run_side_by_side_on_ports_of_their_own(
    running_stack: StackUnderTest, new_stack: NewStack
) -> None:
    other = new_stack()
    found = other.up()
    here = running_stack.status()
    assert found["healthy"] is True
    assert found["instance_id"] != here["instance_id"]
    assert {p["endpoint"] for p in found["processes"]}.isdisjoint(
        {p["endpoint"] for p in here["processes"]}
    )
    assert here["healthy"] is True


def test_a_command_over_a_state_that_is_not_there_says_so(new_stack: NewStack) -> None:
    stack = new_stack()
    assert stack.refusal("status")["code"] == "stack.not_running"
    assert stack.refusal("down")["code"] == "stack.not_running"
    assert not stack.state.exists()


def test_a_folder_of_something_else_is_left_alone(new_stack: NewStack) -> None:
    stack = new_stack()
    stack.state.mkdir()
    (stack.state / "thesis.txt").write_text("years of work")
    assert stack.refusal("up")["code"] == "stack.state_invalid"
    assert [path.name for path in stack.state.iterdir()] == ["thesis.txt"]


def test_what_a_start_left_that_was_killed_before_the_place_was_written_is_gone_on_with(
    new_stack: NewStack,
) -> None:
    stack = new_stack()
    (stack.state / "keys").mkdir(parents=True)
    # As it is written before it takes its name.
    (stack.state / ".place.toml.0123456789abcdef").write_text("format = ")
    assert create_state(stack.state, None).root == stack.state.resolve()
    (stack.state / "thesis.txt").write_text("years of work")
    with pytest.raises(StackStateInvalid):
        create_state(stack.state, None)


def test_a_state_that_others_may_read_is_refused(new_stack: NewStack) -> None:
    stack = new_stack()
    stack.state.mkdir(mode=0o755)
    place = stack.state / "place.toml"
    place.write_text("format = 1\n")
    assert stack.refusal("status")["code"] == "stack.state_open"
    place.unlink()


def test_in_the_foreground_an_interrupt_stops_everything(new_stack: NewStack) -> None:
    stack = new_stack()
    argv = [sys.executable, "-m", "cli.main", "up", "--foreground", "--state", str(stack.state)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "all parts are healthy" in line:
            break
    pids = stack.pids()
    assert pids["supervisor"] == process.pid
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert not [pid for pid in pids.values() if mark_of(pid)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_named(new_stack: NewStack) -> None:
    stack = new_stack()
    stack.state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", stack.state], check=True)
    try:
        error = stack.refusal("up")
    finally:
        subprocess.run(["umount", stack.state], check=True)
    assert error["code"] == "storage.no_space"
