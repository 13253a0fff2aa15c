"""What everything about access works with; made once, in each service's composition root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from flask import g, request

from serving.access.passwords import PasswordGate
from serving.access.settings import AccessSettings
from shared.audit import AuditTrail
from shared.clock import Clock
from shared.database import Connection, Pool, postgres_faults
from shared.eventstore import EventStore


@dataclass(frozen=True)
class Visit:
    """Where a request comes from, for limits and for the audit trail."""

    address: str | None
    correlation_id: str

    @property
    def source(self) -> str:
        """Return it as the audit trail names it."""
        return f"http:{self.address}"


def present_visit() -> Visit:
    """Return where the present request comes from."""
    return Visit(request.remote_addr, str(g.correlation_id))


@dataclass(frozen=True)
class Access:
    """The parts that sessions and tokens need of the service that they run in."""

    settings: AccessSettings
    instance_id: UUID
    pool: Pool
    store: EventStore
    audit: AuditTrail
    clock: Clock
    bootstrap_file: Path | None = None
    gate: PasswordGate = field(default_factory=PasswordGate)

    @contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """Run a block in a transaction of its own. Raises PostgresUnavailable."""
        with postgres_faults(doing), self.pool.connection() as conn:
            yield conn
