"""One measured figure: what it is, and what it must be at least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

MB = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A figure with its unit; ``least`` is a promise, and breaking it fails the run."""

    name: str
    value: float
    unit: str
    least: float | None = None

    @property
    def kept(self) -> bool:
        """Tell whether the promise is kept; there may be none."""
        return self.least is None or self.value >= self.least


@dataclass
class Watch:
    """How long a block took."""

    seconds: float = field(default=0.0)

    def rate(self, amount: float) -> float:
        """Return ``amount`` per second."""
        return amount / self.seconds


@contextmanager
def measured() -> Iterator[Watch]:
    """Time a block."""
    watch, started = Watch(), perf_counter()
    yield watch
    watch.seconds = perf_counter() - started


def best_of(times: int, run: Callable[[], float]) -> float:
    """Return the best of some runs: what disturbs a measurement only ever slows it down."""
    return max(run() for _ in range(times))
