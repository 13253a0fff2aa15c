"""The real parts that are measured: a stack of its own, started when a section first needs it."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from bench.figure import measured
from cli.platform import platform
from deploy.embedded import stack
from deploy.embedded.account import server_account
from deploy.embedded.configs import kafka_settings
from deploy.embedded.database import DATABASE
from deploy.embedded.folder import open_state
from deploy.embedded.parts import postgres_server
from deploy.embedded.place import load_place
from deploy.embedded.wishes import Wishes
from shared.instance.sample.load import load
from shared.settings import KafkaSettings

# Tens of thousands of events: long enough to measure, short enough to wait for.
DEFAULT_SCALE = 20


@dataclass(frozen=True)
class Loaded:
    """How the sample came into the instance."""

    events: int
    elapsed_s: float
    stored_s: float
    last_offset: int


class Machine:
    """One temporary stack and one temporary folder for all sections; nothing stays behind."""

    def __init__(self, scale: int) -> None:
        """``scale`` is how many copies of the sample the sections work with."""
        self.scale = scale
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._exit.close()

    @cached_property
    def folder(self) -> Path:
        """Return a folder that is removed at the end."""
        folder = Path(tempfile.mkdtemp(prefix="secryn-bench-"))
        self._exit.callback(shutil.rmtree, folder)
        return folder

    @cached_property
    def state(self) -> Path:
        """Start the stack; return its state folder."""
        state = self.folder / "state"
        self._exit.callback(_down, state)
        stack.up(state, Wishes(), tell)
        return state

    @cached_property
    def loaded(self) -> Loaded:
        """Fill the instance with the sample, once."""
        state = self.state
        tell(f"loading {self.scale} copies of the sample")
        with platform(state) as parts, measured() as stored:
            with measured() as acknowledged:
                summary = load(parts.writer, seed=1, scale=self.scale)
            parts.writer.wait_until_stored(summary.last, timeout_s=900)
        return Loaded(summary.events, acknowledged.seconds, stored.seconds, summary.last.offset)

    def kafka(self, user: str) -> KafkaSettings:
        """Return how ``user`` reaches the log."""
        folder = open_state(self.state)
        return kafka_settings(folder, load_place(folder.place), user)

    def postgres(self, database: str = DATABASE) -> str:
        """Return the superuser's dsn to a database of the stack."""
        folder = open_state(self.state)
        return postgres_server(folder, load_place(folder.place), server_account()).dsn(database)

    def fresh_database(self) -> str:
        """Return the superuser's dsn to a new, empty database."""
        name = f"bench_{secrets.token_hex(4)}"
        with psycopg.connect(self.postgres(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name}".encode())
        return self.postgres(name)


def _down(state: Path) -> None:
    if (state / "place.toml").exists():
        stack.down(state, tell)


def tell(text: str) -> None:
    """Say on standard error what happens; the figures alone go to standard output."""
    print(text, file=sys.stderr)
