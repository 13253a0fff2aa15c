"""The client of a service's audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared.api.audit import AuditPage, AuditReport
from shared.audit import Checkpoint
from shared.client.http import ServiceConnection

# The whole chain is read before there is an answer.
VERIFY_TIMEOUT_S = 3600.0


class AuditClient:
    """Read the audit trail of one service, take it away, and have its chain checked."""

    def __init__(self, connection: ServiceConnection) -> None:
        self.connection = connection

    def list(self, **asked: object) -> AuditPage:
        """Return a page, the newest entry first; ``asked`` are the filters, ``limit``, ``cursor``."""
        return self.connection.ask(AuditPage, "GET", "/api/v1/audit", **_given(asked))

    def export(self, sink: Callable[[bytes], object], **asked: object) -> None:
        """Stream the entries, as filtered, into ``sink`` as JSON lines, from the first one."""
        self.connection.download("/api/v1/audit/export", sink, **_given(asked))

    def verify(self, kept: Checkpoint | None = None) -> AuditReport:
        """Have the chain checked; ``intact``, or ``bad_seq`` and ``reason``.

        It must lead through ``kept``, a checkpoint that was kept elsewhere.
        """
        known: dict[str, Any] = {} if kept is None else {"size": kept.size, "head": kept.head}
        return self.connection.ask(
            AuditReport, "GET", "/api/v1/audit/verify", timeout_s=VERIFY_TIMEOUT_S, **known
        )


def _given(asked: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}
