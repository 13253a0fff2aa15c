"""The projector: the sample's whole log from real Kafka into real PostgreSQL."""

from __future__ import annotations

import threading
import time

from backup_service.projector.loop import Projector
from backup_service.projector.settings import FoldSettings
from backup_service.projector.status import ProjectorStatus
from bench.figure import Figure, measured
from bench.machine import Machine
from shared.kafka import Kafka
from shared.messages import IssuerRegistry
from shared.settings import PostgresSettings

LEAST_EVENTS_PER_S = 10_000
PATIENCE_S = 600


def run(machine: Machine) -> list[Figure]:
    """Fold the log into an empty store with the default settings, tables made on the way."""
    loaded = machine.loaded
    status, stop = ProjectorStatus(), threading.Event()
    projector = Projector(
        Kafka(machine.kafka("projector"), client_id="bench"),
        PostgresSettings(dsn=machine.fresh_database()),
        IssuerRegistry({}),
        status,
        FoldSettings(),
    )
    thread = threading.Thread(target=projector.run, args=(stop,), daemon=True)
    with measured() as watch:
        thread.start()
        _wait(status, loaded.last_offset)
    stop.set()
    thread.join()
    found = status.snapshot()
    if found.rejected:
        raise RuntimeError(f"{found.rejected} events of the sample were rejected")
    return [Figure("projector", watch.rate(found.applied), "events/s", LEAST_EVENTS_PER_S)]


def _wait(status: ProjectorStatus, offset: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = status.snapshot()
        if found.stopped is not None:
            raise RuntimeError(f"the projector stopped: {found.stopped.reason}")
        if found.position is not None and found.position.position > offset:
            return
        time.sleep(0.005)
    raise RuntimeError(f"the projector is not at offset {offset} after {PATIENCE_S} s")
