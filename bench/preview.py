"""A preview of a restore that would undo very many events, and the memory it takes."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

from bench.backup import make
from bench.figure import Figure, measured
from bench.machine import Machine, tell
from bench.watched import peak_memory, pid_of
from cli.connect import connected
from cli.platform import platform
from shared.instance.events import ProjectCreated, ProjectUpdated
from shared.instance.writer import NewEvent

# At the default scale a million.
EVENTS_PER_COPY = 50_000
ACTORS = 50
# A million in 30 s.
LEAST_EVENTS_PER_S = 1_000_000 / 30


def run(machine: Machine) -> list[Figure]:
    """Back the instance up, write on, and ask what a restore would undo."""
    count = machine.scale * EVENTS_PER_COPY
    made = make(machine)
    tell(f"writing {count:,} events")
    with platform(machine.state) as parts:
        written = parts.writer.append_all(_events(count))
        assert written is not None
        parts.writer.wait_until_stored(written, timeout_s=1800)
    with connected(machine.state) as services:
        restores = services.restores
        with peak_memory(pid_of(machine.state, "restore")) as held, measured() as watch:
            asked = restores.preview(
                target_instance_id=services.instance_id,
                key_file_text=made.key,
                backup_id=made.backup["backup_id"],
            )
            found = restores.wait_preview(asked["preview_id"])
    if found["state"] != "previewed" or found["events"]["total"] != count:
        raise RuntimeError(f"the preview ended {found['state']}: {found['error']}")
    return [
        Figure("preview, events undone", watch.rate(count), "events/s", LEAST_EVENTS_PER_S),
        Figure("preview, all of it", watch.seconds, "s"),
        Figure("preview, memory before", held.before_kb / 1000, "MB"),
        Figure("preview, peak memory", held.peak_kb / 1000, "MB"),
    ]


def _events(count: int) -> Iterator[NewEvent]:
    project = uuid4()
    yield NewEvent(ProjectCreated(id=project, name="measured"), "actor 0")
    for number in range(1, count):
        event = ProjectUpdated(id=project, name="measured", description="x" * (number % 300))
        yield NewEvent(event, f"actor {number % ACTORS}")
