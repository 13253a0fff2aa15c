"""A service at work, watched from outside: how long each step took, and its most memory."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.embedded import stack

Json = dict[str, Any]

# Often enough for a step of seconds; each look costs the service some milliseconds.
LOOK_S = 0.2
# A service has hundreds of threads, and each is asked for its children.
CHILDREN_LOOK_S = 0.25
# What resets VmHWM to the present size (Linux, proc(5), clear_refs).
_RESET_PEAK = "5"
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_SHARE = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Steps:
    """Seconds in each step, in the order in which they came."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    last: Mapping[str, Any] = field(default_factory=dict)

    def of(self, *names: str) -> float:
        """Return the seconds of the named steps together."""
        return sum(self.seconds[name] for name in names)

    @property
    def total(self) -> float:
        """Return the seconds of all steps."""
        return sum(self.seconds.values())


def follow(
    look: Callable[[], Mapping[str, Any]], ended: Callable[[Mapping[str, Any]], bool]
) -> Steps:
    """Look until the work has ended; time counts for the step that the look before showed."""
    steps, name, since = Steps(), "", time.monotonic()
    while True:
        found = look()
        now = time.monotonic()
        steps.seconds[name] += now - since
        if ended(found):
            steps.last = found
            return steps
        name, since = str(found.get("step", "waiting")), now
        time.sleep(LOOK_S)


@dataclass
class Memory:
    """The resident memory of a process around a piece of work, with that of those it started."""

    before_kb: int = 0
    peak_kb: int = 0


@contextmanager
def peak_memory(pid: int) -> Iterator[Memory]:
    """Note the most memory that the process and its children had resident during the block.

    To the process's own peak comes the children's, of whose pages each that they share with
    others counts by its share (Linux, proc(5), smaps_rollup).
    """
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)
    memory = Memory(before_kb=resident_peak_kb(pid))
    over, children = threading.Event(), _Children(pid)
    looking = threading.Thread(target=children.watch, args=(over,), daemon=True)
    looking.start()
    yield memory
    over.set()
    looking.join()
    memory.peak_kb = resident_peak_kb(pid) + children.peak_kb


class _Children:
    """The most memory that the children of a process had at one time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_kb = 0

    def watch(self, over: threading.Event) -> None:
        while not over.wait(CHILDREN_LOOK_S):
            self.peak_kb = max(self.peak_kb, sum(map(_share_kb, self._pids())))

    def _pids(self) -> list[str]:
        pids: list[str] = []
        for listed in Path(f"/proc/{self._pid}/task").glob("*/children"):
            # A thread may end between the two.
            with suppress(FileNotFoundError, ProcessLookupError):
                pids += listed.read_text().split()
        return pids


def _share_kb(pid: str) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        if found := _SHARE.search(Path(f"/proc/{pid}/smaps_rollup").read_text()):
            return int(found[1])
    # It ended.
    return 0


def resident_peak_kb(pid: int) -> int:
    """Return the most memory that the process had resident since it began, or since a reset."""
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} has no resident memory")
    return int(found[1])


def pid_of(state: Path, process: str) -> int:
    """Return the pid of one process of the stack."""
    found = {each["name"]: each["pid"] for each in stack.status(state)["processes"]}
    return int(found[process])
