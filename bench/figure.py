"""One measured figure: what it is, and what it must be at least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

MB = 1_000_000


@dataclass(frozen=True)
class Figure:
    """A figure with its unit; ``least`` and ``most`` are promises: breaking one fails the run."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def kept(self) -> bool:
        """Tell whether the promises are kept; there may be none."""
        enough = self.least is None or self.value >= self.least
        return enough and (self.most is None or self.value <= self.most)

    @property
    def promise(self) -> str:
        """Return what is promised, and whether it is broken; empty where nothing is."""
        bounds = (("at least", self.least), ("at most", self.most))
        said = ", ".join(f"{word} {bound:,.4g}" for word, bound in bounds if bound is not None)
        return f"({said}{'' if self.kept else ': BROKEN'})" if said else ""


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
