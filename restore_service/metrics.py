"""What is counted beside the HTTP requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.errors import UnavailableError


def glass_counter() -> Counter:
    """Return a counter, not registered yet, of the restores that went without an approval."""
    return Counter(
        "secryn_restore_glass_broken",
        "Restores that the operator began without the approval that the policy asks for",
        registry=None,
    )


class StrayCollector(Collector):
    """How many states are kept of restores that the history does not know, read when asked for."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: what there is is known when it is read."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge; none while the database is away."""
        try:
            count = self._count()
        except UnavailableError:
            return
        yield GaugeMetricFamily(
            "secryn_restore_stray_states",
            "States that are kept of restores which the history does not know: nothing is purged",
            float(count),
        )
