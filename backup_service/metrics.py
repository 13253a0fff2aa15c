"""What is measured when somebody asks: the recovery point, staleness, what waits, the next run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from backup_service.configuration.names import STANDING
from backup_service.context import BackupContext
from backup_service.handlers.watch_confirmations import awaiting
from backup_service.handlers.watch_staleness import measure
from backup_service.protection import recovery_point
from backup_service.schedule.view import show_schedule
from shared.database import postgres_faults
from shared.errors import LogLost, UnavailableError

NOT_KNOWN = float("nan")


class ProtectionCollector(Collector):
    """Gauges that are read from the store when they are asked for, so that replicas agree."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def describe(self) -> list[GaugeMetricFamily]:
        """Return nothing: what there is is known when it is read."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; none of them while the database is away."""
        try:
            facts, waiting = self._read(), awaiting(self._context)
        except (UnavailableError, LogLost):
            return
        for name, (text, value) in facts.items():
            yield GaugeMetricFamily(
                f"secryn_backup_{name}", text, NOT_KNOWN if value is None else value
            )
        unconfirmed = GaugeMetricFamily(
            "secryn_backup_configuration_unconfirmed",
            "1 where a standing setting waits for a confirmation",
            labels=["setting"],
        )
        for name in STANDING:
            unconfirmed.add_metric([name], float(name in waiting))
        yield unconfirmed

    def _read(self) -> dict[str, tuple[str, float | None]]:
        context = self._context
        with postgres_faults("measuring"), context.pool.connection() as conn:
            point = recovery_point(context, conn)
            staleness = measure(context, conn)
        proven = None if staleness["backup_id"] is None else _timestamp(staleness["since"])
        runs = show_schedule(context)["next_runs"]
        following = next((_timestamp(run["due_at"]) for run in islice(runs, 1)), None)
        return {
            "rpo_events": (
                "Offsets of the log behind the newest backup that counts",
                point["events"],
            ),
            "rpo_seconds": (
                "Age of the newest backup that counts; 0: nothing changed since",
                point["seconds"],
            ),
            "newest_timestamp_seconds": ("When the newest backup that counts was begun", proven),
            "stale": (
                "1 when no backup that counts is within the set time",
                float(staleness["stale"]),
            ),
            "next_run_timestamp_seconds": ("When the schedule runs next", following),
        }


def _timestamp(text: Any) -> float:
    return datetime.fromisoformat(str(text)).timestamp()
