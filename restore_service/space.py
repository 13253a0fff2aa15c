"""What a restore costs on the database's disk, and whether it fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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


class SpaceWatch:
    """Whether a load fits, asked as it grows: how large it becomes is known at its end alone.

    ``times`` is how often there has to be room for it. Where PostgreSQL's disk cannot be seen from
    here nothing is refused, and the facts say so.
    """

    def __init__(
        self, conn: Connection, settings: RestoreSettings, what: str = "the restore", times: int = 1
    ) -> None:
        self._settings = settings
        self._what = what
        self._times = times
        self._measured = measure_space(conn, settings)
        self._copy_bytes = 0

    @property
    def facts(self) -> dict[str, Any]:
        """Return what was measured before the load, and what it needs as far as it is known."""
        return self._measured | {"needed_bytes": self._needed(self._copy_bytes)}

    def expect(self, copy_bytes: int) -> None:
        """Refuse what cannot fit: there will be at least so much COPY data. Raises RestoreNoSpace."""
        self._compare(self._needed(copy_bytes))

    def take(self, copy_bytes: int) -> None:
        """Note what is about to be loaded. Raises RestoreNoSpace."""
        self._copy_bytes += copy_bytes
        self._compare(self._needed(self._copy_bytes))
        left, least = _free_bytes(self._settings), self._settings.least_free_bytes
        if left is not None and left < least:
            raise RestoreNoSpace(
                f"{left:,} bytes are free on the database's disk during the load, "
                f"and {least:,} stay so"
            )

    def _needed(self, copy_bytes: int) -> int:
        stored = round(self._times * copy_bytes * STORED_PER_COPIED)
        return stored + min(stored, LOGGED_MAX_BYTES)

    def _compare(self, needed: int) -> None:
        free, least = self._measured["free_bytes"], self._settings.least_free_bytes
        if free is not None and free - needed < least:
            raise RestoreNoSpace(
                f"{self._what} needs {needed:,} bytes and more beside the present state; {free:,} "
                f"are free on the database's disk, and {least:,} stay so"
            )


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Raise a PostgreSQL that finds its disk full as RestoreNoSpace."""
    try:
        yield
    except psycopg.errors.DiskFull:
        raise RestoreNoSpace("PostgreSQL found its disk full during the load") from None


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
