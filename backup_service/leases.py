"""Leases: whoever downloads a backup has one, so that no replica purges it meanwhile.

A lease is renewed while bytes flow and is over a while after the last of them, whatever became of
the process that had it. Taking one and beginning a purge go through the append lock: a download
begins before the purge, or is refused.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

from shared.database import Connection

LEASE_S: Final = 120.0
RENEW_S: Final = 20.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.leases (
    lease_id uuid PRIMARY KEY,
    backup_id uuid NOT NULL,
    until timestamptz NOT NULL
);
"""
_UNTIL = "clock_timestamp() + make_interval(secs => %s)"


def migrate_leases(conn: Connection) -> None:
    """Make the table where it is missing."""
    conn.execute(_SCHEMA)


def take_lease(conn: Connection, backup_id: object) -> UUID:
    """Keep a backup from being purged for a while; in a transaction that holds the append lock."""
    lease_id = uuid4()
    conn.execute("DELETE FROM backup.leases WHERE until < clock_timestamp()")
    conn.execute(
        f"INSERT INTO backup.leases VALUES (%s, %s, {_UNTIL})", (lease_id, backup_id, LEASE_S)
    )
    return lease_id


def renew_lease(conn: Connection, lease_id: UUID) -> None:
    """Have a lease last on; the time is PostgreSQL's, which all replicas share."""
    conn.execute(
        f"UPDATE backup.leases SET until = {_UNTIL} WHERE lease_id = %s", (LEASE_S, lease_id)
    )


def end_lease(conn: Connection, lease_id: UUID) -> None:
    """Give a lease back."""
    conn.execute("DELETE FROM backup.leases WHERE lease_id = %s", (lease_id,))


def leased(conn: Connection) -> set[str]:
    """Return the ids of the backups that somebody has a lease on."""
    rows = conn.execute("SELECT backup_id FROM backup.leases WHERE until >= clock_timestamp()")
    return {str(row[0]) for row in rows}
