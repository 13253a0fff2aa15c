"""Which keys wait, and until when: for people, programs and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backup_service.context import BackupContext
from backup_service.keys.expiry import WARNINGS_S, Wait
from shared.database import postgres_faults
from shared.errors import UnavailableError

log = structlog.get_logger(__name__)

_HOUR_S = 3600


def show_keys(context: BackupContext) -> dict[str, Any]:
    """Return every key that waits, the first to expire first, and what is to be said of them all.

    ``held_over`` marks one whose time is over and which waits on, because no newer backup can be
    opened; ``readable`` is false for one whose key-encryption key is not where it must be.
    """
    now = context.clock.now()
    with postgres_faults("looking for waiting keys"), context.pool.connection() as conn:
        waiting = context.keys.waiting(conn)
        expired = context.keys.count_expired(conn)
    keys = [_shown(context, wait, now) for wait in waiting]
    return {
        "waiting": keys,
        "count": len(keys),
        "next_expiry": keys[0]["expires_at"] if keys else None,
        "held_over": sum(key["held_over"] for key in keys),
        "unreadable": sum(not key["readable"] for key in keys),
        "expired_unseen": expired,
    }


def _shown(context: BackupContext, wait: Wait, now: datetime) -> dict[str, Any]:
    return {
        "backup_id": str(wait.backup_id),
        "waits_since": wait.since.isoformat(),
        "expires_at": wait.expires_at.isoformat(),
        "left_s": max(0, round((wait.expires_at - now).total_seconds())),
        "held_over": now >= wait.expires_at and not wait.warnings_s,
        "readable": context.keys.keks.holds(wait.backup_id),
    }


class KeyMetrics(Collector):
    """The waiting keys as metrics, read when they are asked for: every replica tells the same."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def describe(self) -> Iterator[Metric]:
        """Return nothing: registering must not ask the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; none while PostgreSQL does not answer."""
        try:
            found = show_keys(self._context)
        except UnavailableError as error:
            log.warning("keys.unmeasured", code=error.code, reason=error.message)
            return
        yield _gauge("keys_waiting", "One-time keys that wait to be viewed", found["count"])
        yield self._expiring(found["waiting"])
        yield _gauge("keys_held_over", "Keys that wait past their time", found["held_over"])
        yield _gauge(
            "keys_unreadable", "Waiting keys without a key-encryption key", found["unreadable"]
        )
        if found["next_expiry"] is not None:
            at = datetime.fromisoformat(found["next_expiry"]).timestamp()
            yield _gauge("key_next_expiry_timestamp_seconds", "When the next key expires", at)
        yield CounterMetricFamily(
            "secryn_backup_keys_expired_unseen",
            "Keys that expired before anybody viewed them",
            value=found["expired_unseen"],
        )

    def _expiring(self, waiting: list[dict[str, Any]]) -> Metric:
        family = GaugeMetricFamily(
            "secryn_backup_keys_expiring",
            "Keys that expire within so many hours",
            labels=["within_hours"],
        )
        for lead_s in WARNINGS_S:
            soon = sum(key["left_s"] <= lead_s for key in waiting)
            family.add_metric([str(lead_s // _HOUR_S)], soon)
        return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"secryn_backup_{name}", text, value=value)
