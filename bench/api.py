"""The HTTP interface: commands while many watch, and large files both ways.

The instance is grown until its backup has 2 GB.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from statistics import quantiles
from typing import Final, Self
from urllib.parse import urlsplit

from bench.backup import make
from bench.figure import Figure, measured
from bench.machine import Machine, tell
from bench.versus import grow
from bench.watched import Memory, peak_memory, pid_of
from cli.connect import Connected, connected
from deploy.embedded.folder import open_state
from shared.client.backups import ENDED
from shared.secretfiles import read_secret_file

WATCHERS: Final = 200
WATCHED: Final = "/api/v1/operations/events"
TOLD_WITHIN_S: Final = 5.0
COMMANDS: Final = 150
# What a command takes while they watch: a page that was asked for is there before one looks up.
MOST_MS: Final = 100
# Tables of so many megabytes make a backup of 2 GB.
INSTANCE_MB: Final = 2650
LEAST_FILE_MB: Final = 2000
LEAST_MB_PER_S: Final = 200
# What a service may have resident, whatever the size of a file.
MOST_MB: Final = 200


def run(machine: Machine) -> list[Figure]:
    """Measure commands first, while the instance is small."""
    assert machine.loaded.events > 0
    return [*_commands(machine), *_files(machine)]


def _commands(machine: Machine) -> Iterator[Figure]:
    with connected(machine.state) as services:
        backups = services.backups
        yield Figure("commands, nobody watches", _slow_ms(services), "ms at p95")
        token = read_secret_file(open_state(machine.state).token).decode()
        after = services.operations.list(limit=1)["position"]
        with _watching(backups.connection.base_url, token, after) as seen:
            yield Figure(
                f"commands, {WATCHERS} watch", _slow_ms(services), "ms at p95", most=MOST_MS
            )
            yield Figure("watchers that were told", seen(), "", least=WATCHERS)


def _slow_ms(services: Connected) -> float:
    """Return what all but one of twenty commands take at most, a backup going on all the time."""
    taken: list[float] = []
    running = ""
    for _ in range(COMMANDS):
        with measured() as watch:
            if running == "":
                running = str(services.backups.create("a measurement")["backup_id"])
            elif services.backups.get(running)["state"] in ENDED:
                running = ""
        taken.append(watch.seconds)
    return 1000 * quantiles(taken, n=20)[-1]


@contextmanager
def _watching(base_url: str, token: str, after: int) -> Iterator[Callable[[], int]]:
    """Watch Recent Operations over that many connections; give how many were told something."""
    with ExitStack() as stack:
        watchers = [stack.enter_context(_Watcher(base_url, token, after)) for _ in range(WATCHERS)]
        yield lambda: sum(watcher.told.wait(TOLD_WITHIN_S) for watcher in watchers)


class _Watcher:
    """One who watches, on a connection of its own."""

    def __init__(self, base_url: str, token: str, after: int) -> None:
        self._address = f"{WATCHED}?after={after}"
        self._connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}
        self._reading = threading.Thread(target=self._read, daemon=True)
        self.told = threading.Event()

    def __enter__(self) -> Self:
        self._connection.request("GET", self._address, headers=self._headers)
        self._response = self._connection.getresponse()
        if self._response.status != http.client.OK:
            raise RuntimeError(f"a watcher was answered with {self._response.status}")
        self._reading.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closed under the reader: it ends with that.
        sock = self._connection.sock
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._reading.join()
        self._connection.close()

    def _read(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            for line in self._response:
                if line.startswith(b"data:"):
                    self.told.set()


def _files(machine: Machine) -> Iterator[Figure]:
    grow(machine.postgres(), INSTANCE_MB)
    tell("making a backup of 2 GB")
    made = make(machine)
    size_mb = made.stored_mb
    yield Figure("file", size_mb, "MB", least=LEAST_FILE_MB)
    target = machine.folder / "large.age"
    with connected(machine.state) as services:
        # What was written before, of the instance and of the file, is not to be waited for.
        os.sync()
        with peak_memory(pid_of(machine.state, "backup")) as held, measured() as watch:
            services.backups.download(made.backup["backup_id"], target)
        yield from _moved("download", watch.rate(size_mb), held)
        os.sync()
        with peak_memory(pid_of(machine.state, "restore")) as held, measured() as watch:
            services.restores.upload(target)
        yield from _moved("upload", watch.rate(size_mb), held)


def _moved(name: str, rate: float, held: Memory) -> Iterator[Figure]:
    yield Figure(name, rate, "MB/s", least=LEAST_MB_PER_S)
    yield Figure(f"{name}, peak memory", held.peak_kb / 1000, "MB", most=MOST_MB)
