"""A restore as the service runs it, and how long it holds the instance's writers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from bench.backup import MadeBackup, make, phase
from bench.figure import Figure
from bench.machine import Machine
from bench.watched import Steps, follow, peak_memory, pid_of
from cli.connect import connected
from shared.client.restores import ENDED
from shared.instance.position import read_position

FENCE = ("waiting for a running backup", "raising the fence")
LOAD = "checking and loading the archive"
INDEXES = "building the indexes"
COMPARE = "comparing every row"
CUT_OVER = ("waiting for older transactions", "cutting over", "waiting for the projector")
FENCE_LOOK_S = 0.02
ALL_OF_IT = "restore, all of it"


def run(machine: Machine) -> list[Figure]:
    """Back the loaded instance up, and restore that."""
    # Nothing is measured before the sample is in the store.
    assert machine.loaded.events > 0
    made = make(machine)
    with peak_memory(pid_of(machine.state, "restore")) as held:
        figures = timed(machine, made)
    return [
        *figures,
        Figure("restore, memory before", held.before_kb / 1000, "MB"),
        Figure("restore, peak memory", held.peak_kb / 1000, "MB"),
    ]


def timed(machine: Machine, made: MadeBackup) -> list[Figure]:
    """Restore a backup; to look at the memory meanwhile takes time, and is left to others."""
    with _fence(machine.postgres()) as fence, connected(machine.state) as services:
        restores = services.restores
        restore_id = restores.start(
            target_instance_id=services.instance_id,
            key_file_text=made.key,
            reason="a measurement",
            backup_id=made.backup["backup_id"],
        )["restore_id"]
        steps = follow(lambda: restores.get(restore_id), lambda found: found["state"] in ENDED)
    if steps.last["state"] != "restored":
        raise RuntimeError(f"the restore ended {steps.last['state']}: {steps.last.get('error')}")
    return [
        *_phases(steps, made.rows, made.stored_mb),
        Figure(ALL_OF_IT, _seconds(steps.last), "s"),
        Figure("restore, writers held", fence.held_s, "s"),
    ]


def _seconds(restored: Mapping[str, Any]) -> float:
    """Return the time from the request to the end, as the service noted them: no look is in it."""
    requested, ended = (
        datetime.fromisoformat(restored[name]) for name in ("requested_at", "ended_at")
    )
    return (ended - requested).total_seconds()


def _phases(steps: Steps, rows: int, stored_mb: float) -> list[Figure]:
    return [
        *phase("restore, check and load", steps.of(LOAD), rows, stored_mb),
        *phase("restore, compare", steps.of(COMPARE), rows, stored_mb),
        # They are built while it is compared; this is what was left of them.
        Figure("restore, indexes", steps.of(INDEXES), "s"),
        Figure("restore, fence", steps.of(*FENCE), "s"),
        Figure("restore, cut-over", steps.of(*CUT_OVER), "s"),
    ]


@dataclass
class _Fence:
    """For how long the store stood behind a fence."""

    held_s: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self, dsn: str) -> None:
        """Look at the store's position until it is over; the cut-over may wait for no look."""
        # A prepared statement would follow the old schema through the cut-over.
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as conn:
            last = time.monotonic()
            while not self.over.wait(FENCE_LOOK_S):
                fenced = read_position(conn).fenced
                now = time.monotonic()
                self.held_s += now - last if fenced else 0
                last = now


@contextmanager
def _fence(dsn: str) -> Iterator[_Fence]:
    fence = _Fence()
    thread = threading.Thread(target=fence.watch, args=(dsn,), daemon=True)
    thread.start()
    try:
        yield fence
    finally:
        fence.over.set()
        thread.join()
