"""Who reads a stored backup and who deletes it, across services: a lock of PostgreSQL a backup.

restore_service holds it shared for as long as it works with a stored backup; backup_service purges
only what it can lock alone. The lock goes with its session, whatever becomes of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

import psycopg

from shared.database import Connection, postgres_faults

# The first half of the key, beside those of shared/database.py.
BACKUP_SPACE: Final = 0x5EC4


@contextmanager
def using_backup(dsn: str, backup_id: UUID) -> Iterator[None]:
    """Keep a stored backup from being purged. Raises PostgresUnavailable."""
    with (
        postgres_faults("taking hold of the backup"),
        psycopg.connect(dsn, autocommit=True, connect_timeout=10) as conn,
    ):
        conn.execute("SELECT pg_advisory_lock_shared(%s, %s)", (BACKUP_SPACE, _key(backup_id)))
        yield


def lock_alone(conn: Connection, backup_id: UUID) -> bool:
    """Lock a backup until the transaction ends, if nobody uses it; tell whether that was so."""
    row = conn.execute(
        "SELECT pg_try_advisory_xact_lock(%s, %s)", (BACKUP_SPACE, _key(backup_id))
    ).fetchone()
    return bool(row and row[0])


def used_backups(conn: Connection, backup_ids: list[str]) -> set[str]:
    """Return which of the backups somebody uses now."""
    rows = conn.execute(
        "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND classid = %s AND objsubid = 2 AND mode = 'ShareLock'",
        (BACKUP_SPACE,),
    )
    locked = {row[0] for row in rows}
    return {backup_id for backup_id in backup_ids if _key(UUID(backup_id)) in locked}


def _key(backup_id: UUID) -> int:
    return backup_id.int & 0x7FFFFFFF
