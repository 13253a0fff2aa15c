"""What a monitoring system asks of the stored backups; read from the history at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backup_service.context import BackupContext
from backup_service.handlers.check_storage import last_found
from shared.database import postgres_faults
from shared.errors import PostgresUnavailable


class StoredBackupMetrics(Collector):
    """Damaged backups, refused purges, the oldest verification, and what the storage check found."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def describe(self) -> list[Metric]:
        """Return nothing: what is there is asked for at the scrape alone."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; none while PostgreSQL is away, which has a metric of its own."""
        context = self._context
        try:
            with postgres_faults("reading the metrics"), context.pool.connection() as conn:
                row = conn.execute(
                    "SELECT count(*) FILTER (WHERE NOT proven), "
                    "count(*) FILTER (WHERE NOT receipt_intact), "
                    "min(coalesce(verified_at, proven_at, requested_at)) "
                    "FROM backup.backups WHERE state = 'created'"
                ).fetchone()
                found = last_found(context, conn)
                refused = context.history.refused_purges(conn)
        except PostgresUnavailable:
            return
        damaged, receipts, oldest = row if row is not None else (0, 0, None)
        yield GaugeMetricFamily(
            "secryn_backup_damaged",
            "Stored backups that a verification found lost or altered",
            value=damaged,
        )
        yield GaugeMetricFamily(
            "secryn_backup_receipts_damaged",
            "Stored backups whose receipt a verification found lost or altered",
            value=receipts,
        )
        yield GaugeMetricFamily(
            "secryn_backup_purges_refused",
            "Backups that were to be purged and that the storage would not delete yet",
            value=refused,
        )
        age_s = 0.0 if oldest is None else (context.clock.now() - oldest).total_seconds()
        yield GaugeMetricFamily(
            "secryn_backup_oldest_verification_seconds",
            "Time since the last verification, or proof, of the backup where that is the longest",
            value=max(0.0, age_s),
        )
        orphans = GaugeMetricFamily(
            "secryn_backup_storage_findings",
            "What the last check of the storage found, by kind",
            labels=["kind"],
        )
        for kind, count in found.items():
            orphans.add_metric([kind], count)
        yield orphans
