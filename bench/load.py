"""`secryn sample load`: the bulk path onto a real log, while the stack's projector follows it."""

from __future__ import annotations

from bench.figure import Figure
from bench.machine import Machine

LEAST_EVENTS_PER_S = 5_000


def run(machine: Machine) -> list[Figure]:
    """Report the load that filled the instance for the other sections too."""
    loaded = machine.loaded
    return [
        Figure(
            "sample load, acknowledged by the log",
            loaded.events / loaded.elapsed_s,
            "events/s",
            LEAST_EVENTS_PER_S,
        ),
        Figure(
            "sample load, until it is in the store", loaded.events / loaded.stored_s, "events/s"
        ),
    ]
