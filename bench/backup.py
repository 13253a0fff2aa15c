"""A backup as the service makes it: from the request until the archive is stored and proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.figure import MB, Figure
from bench.machine import Machine
from bench.watched import Memory, Steps, follow, peak_memory, pid_of
from cli.connect import connected
from shared.client.backups import ENDED

WRITE = "writing the archive"
PROOF = "proving it: reading it back"


@dataclass(frozen=True)
class MadeBackup:
    """A backup that was watched, and the text of its key file."""

    backup: Mapping[str, Any]
    key: str
    steps: Steps
    memory: Memory

    @property
    def rows(self) -> int:
        """Return how many rows it holds."""
        return sum(int(table["rows"]) for table in self.backup["tables"].values())

    @property
    def stored_mb(self) -> float:
        """Return the size of the object."""
        return float(self.backup["size_bytes"]) / MB


def run(machine: Machine) -> list[Figure]:
    """Make one backup of the loaded instance."""
    # Nothing is measured before the sample is in the store.
    assert machine.loaded.events > 0
    made = make(machine)
    return [
        Figure("backup, rows in it", made.rows, "rows"),
        Figure("backup, size", made.stored_mb, "MB"),
        *phase("backup, write", made.steps.of(WRITE), made.rows, made.stored_mb),
        *phase("backup, proof", made.steps.of(PROOF), made.rows, made.stored_mb),
        Figure("backup, all of it", made.steps.total, "s"),
        Figure("backup, memory before", made.memory.before_kb / 1000, "MB"),
        Figure("backup, peak memory", made.memory.peak_kb / 1000, "MB"),
    ]


def make(machine: Machine) -> MadeBackup:
    """Ask the service for a backup and watch it."""
    with connected(machine.state) as services, peak_memory(pid_of(machine.state, "backup")) as held:
        backups = services.backups
        backup_id = backups.create("a measurement")["backup_id"]
        steps = follow(lambda: backups.get(backup_id), lambda found: found["state"] in ENDED)
    if steps.last["state"] != "created":
        raise RuntimeError(f"the backup ended {steps.last['state']}: {steps.last.get('error')}")
    with connected(machine.state) as services:
        key = services.backups.view_key(backup_id)
    return MadeBackup(steps.last, key, steps, held)


def phase(name: str, seconds: float, rows: int, stored_mb: float) -> list[Figure]:
    """Return the figures of one phase; megabytes are those of the stored object."""
    return [
        Figure(name, seconds, "s"),
        # A look may miss a phase that is shorter than the time between two.
        Figure(f"{name}, of the object", stored_mb / seconds if seconds else 0, "MB/s"),
        Figure(f"{name}, rows", rows / seconds if seconds else 0, "rows/s"),
    ]
