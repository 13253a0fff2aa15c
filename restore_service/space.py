"""What a restore costs on the database's disk, and whether it fits."""

from __future__ import annotations

import shutil
from typing import Any, Final

import psycopg

from restore_service.settings import RestoreSettings
from restore_service.staging import INSTANCE
from shared.database import Connection
from shared.errors import RestoreNoSpace

# A table with its indexes takes 1.4 times its COPY data (docs/decisions/restore-space.md).
STORED_PER_COPIED: Final = 1.5
# PostgreSQL logs what is loaded, up to `max_wal_size`, whose default this is.
LOGGED_MAX_BYTES: Final = 1 << 30
LOCK_WAIT_MS: Final = 500
_INSTANCE_BYTES = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
"""


def measure_space(conn: Connection, settings: RestoreSettings) -> dict[str, Any]:
    """Return what the present state takes, which an undo keeps, and what is free (None: unknown)."""
    return {
        "kept_bytes": _kept_bytes(conn),
        "kept_s": settings.undo_window_s,
        "free_bytes": _free_bytes(settings),
    }


def check_space(
    conn: Connection, settings: RestoreSettings, copy_bytes: int, what: str = "the restore"
) -> dict[str, Any]:
    """Compare what ``copy_bytes`` of COPY data need with what is free.

    Where PostgreSQL's disk cannot be seen from here nothing is refused, and the facts say so.
    Raises RestoreNoSpace.
    """
    stored = round(copy_bytes * STORED_PER_COPIED)
    needed = stored + min(stored, LOGGED_MAX_BYTES)
    space = measure_space(conn, settings) | {"needed_bytes": needed}
    free = space["free_bytes"]
    if free is not None and free - needed < settings.least_free_bytes:
        raise RestoreNoSpace(
            f"{what} needs about {needed:,} bytes beside the present state; {free:,} are free "
            f"on the database's disk, and {settings.least_free_bytes:,} stay so"
        )
    return space


def _kept_bytes(conn: Connection) -> int | None:
    """Measure the present state, unless somebody has locked one of its tables."""
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_WAIT_MS}ms",))
            row = conn.execute(_INSTANCE_BYTES, (INSTANCE,)).fetchone()
    except psycopg.errors.LockNotAvailable:
        return None
    assert row is not None
    return int(row[0])


def _free_bytes(settings: RestoreSettings) -> int | None:
    if settings.database_folder is None:
        return None
    return shutil.disk_usage(settings.database_folder).free
