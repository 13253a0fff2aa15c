"""Keep one part of the stack running: start it, watch it, start it again, give up loudly."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import structlog

from deploy.embedded.process import ProcessMark, mark_of
from shared.errors import SecrynError, StackProcessFailed
from shared.health import LastingFault

log = structlog.get_logger(__name__)

State = Literal["waiting", "starting", "healthy", "unhealthy", "restarting", "failed", "stopped"]

PROBE_STARTING_S = 0.05
PROBE_HEALTHY_S = 2.0
WATCH_S = 0.2
# Five ends in a row, each less than STEADY_S after the part was healthy, and it is given up.
GIVE_UP_AFTER = 5
STEADY_S = 30.0
# A part that answers "not ready" for so long needs a person; the stack stays up for that one.
NOT_READY_LIMIT_S = 15.0
# So much sooner does one that says so itself.
LASTING_LIMIT_S = 2.0
BACKOFF_FIRST_S = 0.25
BACKOFF_LONGEST_S = 8.0


@dataclass(frozen=True)
class Part:
    """One process of the stack and all that its keeper must know about it.

    ``fault`` returns None while the part is healthy, else what is wrong in one line.
    ``provision`` runs each time the part answers again after a start, before it is healthy.
    """

    name: str
    log_file: Path
    start: Callable[[], subprocess.Popen[bytes]]
    fault: Callable[[], str | None]
    stop: Callable[[ProcessMark, float], None]
    needs: tuple[str, ...] = ()
    provision: Callable[[], None] = lambda: None
    endpoint: str | None = None


@dataclass(frozen=True)
class PartReport:
    """What is known of a part at one moment."""

    name: str
    state: State = "waiting"
    mark: ProcessMark | None = None
    restarts: int = 0
    code: str | None = None
    reason: str | None = None
    lasting: bool = False


@dataclass
class Keeper:
    """The thread of one part. ``on_change`` is called after every change of the report."""

    part: Part
    stopping: threading.Event
    needs: tuple[Keeper, ...]
    on_change: Callable[[PartReport], None]
    healthy: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _unhealthy_since: float | None = None
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self._report = PartReport(self.part.name)
        self._thread = threading.Thread(target=self._run, name=f"keep-{self.part.name}")

    @property
    def report(self) -> PartReport:
        with self._lock:
            return self._report

    def unhealthy_for_s(self) -> float:
        """Return for how long the part has answered that it is not ready (0.0: it is not so)."""
        since = self._unhealthy_since
        return 0.0 if since is None else time.monotonic() - since

    def needs_person(self) -> bool:
        """Tell whether waiting longer for the part helps nobody.

        One that says so itself is given a moment: another part may still be recovering what it
        stopped at (a fence that was left open).
        """
        limit_s = LASTING_LIMIT_S if self.report.lasting else NOT_READY_LIMIT_S
        return self.unhealthy_for_s() > limit_s

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread; it ends soon after ``stopping`` is set. The process runs on."""
        self._thread.join()

    def end_process(self, grace_s: float) -> None:
        """Stop the part's process; call after ``join``."""
        mark = self.report.mark
        if mark is not None:
            self.part.stop(mark, grace_s)
        if self._process is not None:
            self._process.wait()
        self._change(state="stopped", mark=None)

    def _change(self, **changes: object) -> None:
        with self._lock:
            before, self._report = self._report, replace(self._report, **changes)  # type: ignore[arg-type]
            after = self._report
        if after.state == "healthy":
            self.healthy.set()
        else:
            self.healthy.clear()
        if before != after:
            self.on_change(after)

    def _run(self) -> None:
        ends = 0
        while self._wait_for_needs():
            healthy_since, error = self._run_once()
            if self.stopping.is_set():
                return
            if healthy_since is not None and time.monotonic() - healthy_since > STEADY_S:
                ends = 0
            if all(need.healthy.is_set() for need in self.needs):
                ends += 1
            log.warning("part.ended", part=self.part.name, code=error.code, reason=error.message)
            if ends >= GIVE_UP_AFTER:
                self._give_up(error)
                return
            self._change(
                state="restarting", mark=None, code=error.code, reason=error.message,
                restarts=self.report.restarts + 1,
            )  # fmt: skip
            self.stopping.wait(min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2**ends))

    def _wait_for_needs(self) -> bool:
        while not self.stopping.is_set():
            if all(need.healthy.wait(WATCH_S) for need in self.needs):
                return True
        return False

    def _give_up(self, error: SecrynError) -> None:
        log.error("part.given_up", part=self.part.name, code=error.code, reason=error.message)
        self._change(state="failed", mark=None, code=error.code, reason=error.message)

    def _run_once(self) -> tuple[float | None, SecrynError]:
        """Run the process until it ends; return since when it was healthy and why it ended."""
        try:
            process = self._process = self.part.start()
        except SecrynError as error:
            return None, error
        except OSError as error:
            return None, StackProcessFailed(f"{self.part.name} does not start: {error}")
        mark = mark_of(process.pid)
        self._change(state="starting", mark=mark)
        log.info("part.started", part=self.part.name, pid=process.pid)
        try:
            healthy_since = self._watch(process)
        except SecrynError as error:
            if mark is not None:
                self.part.stop(mark, 5.0)
            process.wait()
            return None, error
        return healthy_since, StackProcessFailed(
            f"{self.part.name} ended with status {process.returncode}; see {self.part.log_file}"
        )

    def _watch(self, process: subprocess.Popen[bytes]) -> float | None:
        healthy_since: float | None = None
        next_probe = 0.0
        while process.poll() is None and not self.stopping.is_set():
            now = time.monotonic()
            if now >= next_probe:
                fault = self.part.fault()
                if fault is None and healthy_since is None:
                    self.part.provision()
                    healthy_since = now
                self._note_health(fault, healthy_since is not None)
                next_probe = now + (PROBE_HEALTHY_S if fault is None else PROBE_STARTING_S)
            pause = WATCH_S if self.healthy.is_set() else PROBE_STARTING_S
            # Popen.wait would poll as well, and would not see that the stack is stopping.
            self.stopping.wait(pause)
        self._unhealthy_since = None
        return healthy_since

    def _note_health(self, fault: str | None, was_healthy: bool) -> None:
        if fault is None:
            self._unhealthy_since = None
            self._change(state="healthy", code=None, reason=None, lasting=False)
            return
        if self._unhealthy_since is None:
            self._unhealthy_since = time.monotonic()
        self._change(
            state="unhealthy" if was_healthy else "starting",
            code="stack.not_healthy",
            reason=fault,
            lasting=isinstance(fault, LastingFault),
        )
