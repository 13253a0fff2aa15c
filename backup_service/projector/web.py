"""The projector over HTTP: is it alive, is it ready, where is it, and its figures."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask, Response, jsonify
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backup_service.projector.status import ProjectorStatus
from serving.app import Readiness, create_app
from serving.caller import Authenticator, requires

SERVICE = "projector"


class StatusCollector(Collector):
    """The status as metrics, read when they are asked for."""

    def __init__(self, status: ProjectorStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield the present figures; what is not known yet is left out."""
        now = self._status.snapshot()
        row = now.position
        gauges: list[tuple[str, str, int | None]] = [
            ("position", "Next offset of the log to fold", row.position if row else None),
            ("high_watermark", "End of the log", now.high_watermark),
            ("lag", "Offsets that the store is behind the log", now.lag),
            ("epoch", "Epoch of the instance", row.epoch if row else None),
            ("fenced", "1 while a restore's fence is open", int(row.fenced) if row else None),
            ("stopped", "1 while nothing is applied", int(now.stopped is not None)),
        ]
        for name, help_text, value in gauges:
            if value is not None:
                yield GaugeMetricFamily(f"secryn_projector_{name}", help_text, value=value)
        counters = [
            ("applied", "Events folded into the store by this process", now.applied),
            ("rejected", "Events that contradicted the state", now.rejected),
            ("batches", "Transactions committed", now.batches),
        ]
        for name, help_text, count in counters:
            yield CounterMetricFamily(f"secryn_projector_{name}", help_text, value=count)
        skipped = CounterMetricFamily(
            "secryn_projector_skipped", "Records passed over, by reason", labels=["reason"]
        )
        for reason, count in sorted(row.skipped.items()) if row else ():
            skipped.add_metric([reason], count)
        yield skipped


def create_projector_app(status: ProjectorStatus, authenticator: Authenticator) -> Flask:
    """Build the application: health, readiness, metrics and /status."""
    readiness = Readiness()
    readiness.add("projector", status.fault)
    registry = CollectorRegistry()
    registry.register(StatusCollector(status))
    app = create_app(SERVICE, authenticator, readiness, registry=registry)

    @app.get("/status", endpoint="status")
    @requires("read")
    def show() -> Response:
        return jsonify(status.snapshot().as_dict())

    return app
