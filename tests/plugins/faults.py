"""Stop a process of a live stack between two of its steps, and kill what one likes meanwhile.

crashing.points.arm("restore.step.load")     # whoever comes there stays there
crashing.points.wait("restore.step.load")
crashing.kill("kafka")                       # or "all": every process, the supervisor too
crashing.points.release()
crashing.wait_up()

pytest                     # each point once, with one victim or another
pytest --every-point       # every point, each with one victim
pytest --all-faults        # each point with each victim: make test-faults, and make test-all
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from cli.connect import connected
from cli.platform import platform
from deploy.embedded.stack import status
from shared.crashpoints import ENV
from tests.plugins.instance import eventually
from tests.plugins.live import Live, live_stack

# The supervisor gives a part up that ended five times in a row; a test ends it more often.
_ENDS_OF_A_PART: Final = 3

# In an ordinary run the others are left to `--every-point`: each takes ten seconds and more.
SOME: Final = 8
DECISIVE: Final = ("cut_over.uncommitted", "cut_over.committed", "announce.uncommitted")

T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-point",
        action="store_true",
        help="stop at every crash point (ten minutes), not at every eighth and the decisive ones",
    )
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="kill every part at every crash point (an hour and more), not one at each",
    )


def one_or_all(
    config: pytest.Config, points: Sequence[T], victims: Sequence[str]
) -> list[tuple[T, str]]:
    """Return points with the next of ``victims``, or with all of them if it is asked for.

    Who stands among ``victims`` more than once has its turn more often.
    """
    if config.getoption("--all-faults"):
        return [(point, victim) for point in points for victim in dict.fromkeys(victims)]
    chosen = some_or_every(config, points)
    return [(point, victims[n % len(victims)]) for n, point in enumerate(chosen)]


def some_or_every(config: pytest.Config, points: Sequence[T]) -> list[T]:
    """Return every eighth point and those of the decisions, or every one if it is asked for."""
    if config.getoption("--every-point") or config.getoption("--all-faults"):
        return list(points)
    return [
        point
        for n, point in enumerate(points)
        if n % SOME == 0 or any(word in str(point) for word in DECISIVE)
    ]


@dataclass
class Points:
    """The folder through which crash points are asked to stop a process."""

    folder: Path

    def arm(self, name: str) -> None:
        (self.folder / f"{name}.reached").unlink(missing_ok=True)
        (self.folder / name).touch()

    def reached(self, name: str) -> bool:
        return (self.folder / f"{name}.reached").exists()

    def wait(self, name: str, timeout_s: float = 40.0) -> None:
        eventually(lambda: self.reached(name), f"{name} is reached", timeout_s)

    def release(self, *names: str) -> None:
        """Let ``names`` go on, or whoever is stopped."""
        for path in list(self.folder.iterdir()):
            if path.suffix != ".reached" and (not names or path.name in names):
                path.unlink()


@dataclass
class Crashing:
    """A live stack whose processes stop at the points."""

    live: Live
    points: Points
    _clients: ExitStack
    _ends: Counter[str] = field(default_factory=Counter)
    _gone: set[int] = field(default_factory=set)

    def _status(self) -> dict[str, Any]:
        # Not by the command line: to start that takes longer than many a part.
        return status(self.live.stack.state)

    def pids(self) -> dict[str, int]:
        """Return the pid of every process that runs, the supervisor's among them."""
        found = self._status()
        pids = {p["name"]: p["pid"] for p in found["processes"] if p["pid"]}
        return pids | {"supervisor": found["supervisor_pid"]}

    def kill(self, victim: str) -> None:
        """Send SIGKILL to one part, or to all and their supervisor."""
        pids = self.pids()
        names = list(pids) if victim == "all" else [victim]
        # The supervisor first: it must not start anything again.
        for name in sorted(names, key=lambda name: name != "supervisor"):
            with suppress(ProcessLookupError):
                os.kill(pids[name], signal.SIGKILL)
        self._ends.update(names)
        self._gone |= {pids[name] for name in names}

    def wait_up(self) -> None:
        """Return when everything runs again."""
        if self._ends["supervisor"]:
            self._ends.clear()
            # It gives up waiting sooner than we do, and the stack stays up.
            self.live.stack.secryn("up", check=False)
            self._connect_anew()

        def healthy() -> bool:
            found = self._status()
            new = not self._gone & {process["pid"] for process in found["processes"]}
            return new and bool(found["healthy"])

        eventually(healthy, "everything runs again", 90)
        self._gone.clear()

    def _connect_anew(self) -> None:
        # While nothing ran, another stack of this machine may have taken the ports.
        state = self.live.stack.state
        self._clients.close()
        self.live.services = self._clients.enter_context(connected(state))
        self.live.platform = self._clients.enter_context(platform(state))

    def rest(self) -> None:
        """Start the stack anew before a part is given up."""
        if any(ends >= _ENDS_OF_A_PART for ends in self._ends.values()):
            self.live.stack.down()
            self.live.stack.up()
            self._connect_anew()
            self._ends.clear()


def _settings(folder: Path) -> Path:
    """Write settings by which a restore comes by every step."""
    file = folder / "settings.reached"
    file.write_text('[restore.restore]\nnotice_text = "A moment, please."\nnotice_lead_s = 0\n')
    return file


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Give the test run its signals back from what is started in its process."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def crashing() -> Iterator[Crashing]:
    """A stack with the sample instance and crash points."""
    with (
        tempfile.TemporaryDirectory(prefix="secryn points ") as folder,
        live_stack("--settings", str(_settings(Path(folder))), environment={ENV: folder}) as live,
        ExitStack() as clients,
    ):
        live.stack.secryn("sample", "load")
        yield Crashing(live, Points(Path(folder)), clients)
