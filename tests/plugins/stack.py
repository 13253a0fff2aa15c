"""Whole stacks for the tests, through the same `secryn` that a person types.

    def test_it(new_stack):
        stack = new_stack()                      # a state folder in a path with spaces
        found = stack.up()                       # the document of `secryn up --json`
        stack.process("kafka")["pid"]
        stack.secryn("backup", "list")           # CompletedProcess; stdout is one JSON document
        stack.up_with({"restore": {"restore": {"hashers": 1}}})    # with settings
        stack.kafka("admin")                     # KafkaSettings of a user of this stack
        stack.postgres_admin()                   # a superuser's dsn

    def test_shared(running_stack): ...          # one stack for a module; leave it running

Every stack is taken down and its folder removed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from deploy.embedded import stack as embedded
from deploy.embedded.account import server_account
from deploy.embedded.configs import kafka_settings
from deploy.embedded.database import DATABASE
from deploy.embedded.folder import open_state
from deploy.embedded.parts import postgres_server
from deploy.embedded.place import load_place
from shared.settings import KafkaSettings
from tests import typed

COMMAND_TIMEOUT_S = 180


@dataclass
class StackUnderTest:
    """One state folder and the command line over it."""

    state: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    # The superuser's dsn, of a PostgreSQL that is not the stack's own.
    superuser: str | None = None

    def secryn(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``secryn ARGUMENTS --state STATE --json``."""
        words = [*arguments, "--state", str(self.state), "--json"]
        done = typed.secryn(words, self.environment, COMMAND_TIMEOUT_S)
        if check:
            assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    def up(self, *arguments: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.secryn("up", *arguments).stdout)
        return document

    def up_with(self, settings: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
        """Start it with ``settings`` (by process, section, name) beside those that its place has."""
        place = self.state / "place.toml"
        found = load_place(place).settings if place.exists() else {}
        merged: dict[str, Any] = {process: sections for process, sections in found.items()}  # noqa: C416
        for process, sections in settings.items():
            known = merged.get(process, {})
            merged[process] = known | {
                section: known.get(section, {}) | dict(values)
                for section, values in sections.items()
            }
        file = self.state.with_name("settings.toml")
        file.write_text(tomli_w.dumps(merged))
        return self.up("--settings", str(file))

    # What `secryn down` and `secryn status` print. To start the command line takes longer than
    # either does, and tests ask over and over; those of the commands themselves type them.

    def down(self) -> dict[str, Any]:
        return embedded.down(self.state, lambda _: None)

    def status(self) -> dict[str, Any]:
        return embedded.status(self.state)

    def refusal(self, *arguments: str) -> dict[str, Any]:
        """Run a command that must fail; return its ``error`` object."""
        done = self.secryn(*arguments, check=False)
        assert done.returncode != 0, done.stdout
        error: dict[str, Any] = json.loads(done.stdout)["error"]
        return error

    def process(self, name: str) -> dict[str, Any]:
        """Return one process of the status."""
        return next(found for found in self.status()["processes"] if found["name"] == name)

    def pids(self) -> dict[str, int]:
        """Return the pid of every process, the supervisor's among them."""
        found = self.status()
        pids = {process["name"]: process["pid"] for process in found["processes"]}
        return pids | {"supervisor": found["supervisor_pid"]}

    def kill(self, name: str) -> int:
        """Send SIGKILL to one process and wait until it is gone; return its pid."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=5)
        return pid

    def wait_healthy(self, timeout_s: float = 40.0) -> dict[str, Any]:
        """Return the status once everything is healthy."""
        return self.wait(lambda found: bool(found["healthy"]), timeout_s)

    def wait(
        self, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 40.0
    ) -> dict[str, Any]:
        """Return the first status for which ``holds``."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.status()
            if holds(found):
                return found
            assert time.monotonic() < deadline, json.dumps(found, indent=2)
            time.sleep(0.1)

    def kafka(self, user: str) -> KafkaSettings:
        """Return how ``user`` (``admin``, ``platform``, ...) reaches this stack's Kafka."""
        state = open_state(self.state)
        return kafka_settings(state, load_place(state.place), user)

    def postgres_admin(self) -> str:
        """Return the superuser's dsn to the stack's database."""
        if self.superuser is not None:
            return self.superuser
        state = open_state(self.state)
        return postgres_server(state, load_place(state.place), server_account()).dsn(DATABASE)


@pytest.fixture
def new_stack() -> Iterator[Callable[..., StackUnderTest]]:
    made: list[StackUnderTest] = []
    folders: list[Path] = []

    def make(**environment: str) -> StackUnderTest:
        folder = Path(tempfile.mkdtemp(prefix="secryn test "))
        folders.append(folder)
        made.append(StackUnderTest(folder / "the state", environment))
        return made[-1]

    yield make
    _clear(made, folders)


@pytest.fixture(scope="module")
def running_stack() -> Iterator[StackUnderTest]:
    folder = Path(tempfile.mkdtemp(prefix="secryn test "))
    stack = StackUnderTest(folder / "the state")
    try:
        stack.up()
        yield stack
    finally:
        _clear([stack], [folder])


def _clear(stacks: list[StackUnderTest], folders: list[Path]) -> None:
    for stack in stacks:
        if (stack.state / "place.toml").exists():
            stack.down()
    for folder in folders:
        shutil.rmtree(folder)
