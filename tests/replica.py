"""Replicas of backup_service, each a process of its own, on a clock that a test sets.

replicas = Replicas(backing, clock, tmp_path)   # nothing runs yet
replicas.start()                                # another process of the same place
replicas.pids                                   # of those that live
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import tomli_w

from backup_service.app import run
from backup_service.settings import BackupServiceSettings
from deploy.embedded.process import free_ports
from shared.crashpoints import ENV
from shared.logs import configure_logs
from shared.secretfiles import write_secret_file
from shared.settings import load_settings
from tests import forked
from tests.backing import ISSUER, Backing

forked.preload(__name__)


class FileClock:
    """The time that stands in a file; all who read it agree."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        return datetime.fromisoformat(self.path.read_text())

    def set(self, at: datetime) -> None:
        # Nobody ever reads half a time.
        scratch = self.path.with_suffix(".new")
        scratch.write_text(at.isoformat())
        scratch.replace(self.path)

    def pass_(self, **passing: float) -> datetime:
        self.set(self.now() + timedelta(**passing))
        return self.now()


class Replicas:
    """Processes of one place; all are killed at the end."""

    def __init__(self, backing: Backing, clock: FileClock, folder: Path) -> None:
        self.points = folder / "points"
        self.points.mkdir()
        self._backing = backing
        self._clock = clock
        self._folder = folder
        self._running: dict[int, ForkServerProcess] = {}
        self._write_lists()

    def _write_lists(self) -> None:
        place = self._backing.context.settings.place
        key = self._backing.restorer.public.raw.hex()
        issuers = {ISSUER: {"public_key": key, "permissions": ["announce_restore", "configure"]}}
        signer = {"this-place": {"public_key": self._backing.context.signer.public.raw.hex()}}
        write_secret_file(place.issuers_file, tomli_w.dumps(issuers).encode())
        write_secret_file(place.trusted_signers_file, tomli_w.dumps(signer).encode())

    def start(self) -> int:
        """Start another replica; return its pid."""
        (port,) = free_ports(1)
        document = self._backing.context.settings.model_dump(mode="json", exclude_none=True)
        document["http"]["port"] = port
        config = self._folder / f"replica-{port}.toml"
        write_secret_file(config, tomli_w.dumps(document).encode())
        log = self._folder / f"replica-{port}.log"
        process = forked.start(_serve, config, self._clock.path, log, self.points)
        assert process.pid is not None
        self._running[process.pid] = process
        return process.pid

    @property
    def pids(self) -> set[int]:
        return {pid for pid, process in self._running.items() if process.is_alive()}

    def kill(self, pid: int) -> None:
        """Send SIGKILL to a replica of ours."""
        forked.kill(self._running.pop(pid))

    def close(self) -> None:
        with ExitStack() as stack:
            for pid in list(self._running):
                stack.callback(self.kill, pid)


def _serve(config: Path, clock: Path, log: Path, points: Path) -> None:
    """Be a replica until somebody ends it."""
    os.environ[ENV] = str(points)
    with log.open("wb") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    configure_logs("backup_service")
    settings = load_settings(BackupServiceSettings, config)
    sys.exit(run(settings, FileClock(clock)))
