"""Processes of a state that outlived their supervisor: found for sure, and stopped in order.

They are recognised by what only they have (a working folder or a settings file inside this
state), not by a list that a crash, a full disk or a reboot may have made wrong.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from deploy.embedded.folder import StateFolder
from deploy.embedded.kafka import stop_kafka
from deploy.embedded.postgres import stop_postgres
from deploy.embedded.process import ProcessMark, mark_of

SERVICES = ("restore", "backup", "projector")


@dataclass(frozen=True)
class Leftover:
    """One process and the part of the stack that it is."""

    part: str
    mark: ProcessMark


def find_leftovers(state: StateFolder) -> list[Leftover]:
    """Return the running processes of ``state``, of the supervisor's children only."""
    root = state.root.resolve()
    kafka, data = str(root / "kafka"), str(root / "postgres" / "data")
    configs = {str(root / "config" / f"{name}.toml"): name for name in SERVICES}
    found = []
    for process, command, folder in _processes():
        part = next((configs[word] for word in command if word in configs), None)
        if part is None and folder == kafka and "kafka.Kafka" in command:
            part = "kafka"
        if part is None and folder == data:
            part = "postgres"
        mark = mark_of(process.pid) if part is not None else None
        if part is not None and mark is not None:
            found.append(Leftover(part, mark))
    return found


def _processes() -> Iterator[tuple[psutil.Process, list[str], str | None]]:
    for process in psutil.process_iter():
        try:
            yield process, process.cmdline(), process.cwd()
        except psutil.Error:
            # It ended meanwhile, or it is another user's and thus none of ours.
            continue


def stop_leftovers(leftovers: list[Leftover], grace_s: float) -> None:
    """Stop services first, then Kafka, then PostgreSQL."""
    by_part: dict[str, list[ProcessMark]] = {}
    for leftover in leftovers:
        by_part.setdefault(leftover.part, []).append(leftover.mark)
    services = [mark for name in SERVICES for mark in by_part.get(name, [])]
    for mark in services:
        mark.send(signal.SIGTERM)
    for mark in services:
        if not mark.wait(grace_s):
            mark.send(signal.SIGKILL)
            mark.wait(5.0)
    for mark in by_part.get("kafka", []):
        stop_kafka(mark, grace_s)
    # The lowest pid need not be the postmaster, but its children end with it.
    for mark in _postmasters_first(by_part.get("postgres", [])):
        stop_postgres(mark, grace_s)


def _postmasters_first(marks: list[ProcessMark]) -> list[ProcessMark]:
    pids = {mark.pid for mark in marks}

    def is_child(mark: ProcessMark) -> bool:
        try:
            return psutil.Process(mark.pid).ppid() in pids
        except psutil.Error:
            return True

    return sorted(marks, key=is_child)
