"""How fresh rehearsals are, measured when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from restore_service.context import RestoreContext
from restore_service.rehearsal.view import read_freshness
from shared.errors import UnavailableError

NOT_KNOWN = float("nan")


class RehearsalCollector(Collector):
    """Gauges that are read from the store when they are asked for, so that replicas agree."""

    def __init__(self, context: RestoreContext) -> None:
        self._context = context

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: what there is is known when it is read."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; none of them while the database is away."""
        try:
            found = read_freshness(self._context)
        except UnavailableError:
            return
        ended_at = None if found.last is None else datetime.fromisoformat(found.last["ended_at"])
        yield GaugeMetricFamily(
            "secryn_restore_rehearsed_timestamp_seconds",
            "When a rehearsal last found a backup restorable",
            NOT_KNOWN if ended_at is None else ended_at.timestamp(),
        )
        yield GaugeMetricFamily(
            "secryn_restore_rehearsal_stale",
            "1 when none did within the set time",
            float(found.stale),
        )
