"""What a service needs to be ready."""

from __future__ import annotations

from serving.app import Readiness
from shared.database import Pool, postgres_faults


def log_and_store_checks(readiness: Readiness, pool: Pool) -> None:
    """Make a PostgreSQL that answers a condition of being ready."""

    def postgres() -> str | None:
        with postgres_faults("checking"), pool.connection(timeout=2) as conn:
            conn.execute("SELECT 1")
        return None

    readiness.add("postgres", postgres)
