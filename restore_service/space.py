"""What a restore costs on the database's disk, and whether it fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import structlog

from restore_service.settings import RestoreSettings
from restore_service.staging import INSTANCE
from shared.database import Connection
from shared.errors import RestoreNoSpace

log = structlog.get_logger(__name__)

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
    """Whether a load fits: asked before it begins, and again as it grows.

    How large it becomes its receipt says; without one that is known at its end alone.
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
        self._expected: dict[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """Return what was measured before the load, and what it needs as far as it is known."""
        needed = {"needed_bytes": self._needed(self._copy_bytes)}
        return self._measured | self._expected | needed

    def expect(self, copy_bytes: int | None, object_bytes: int) -> None:
        """Refuse what does not fit, before anything is loaded. Raises RestoreNoSpace.

        Where ``copy_bytes`` is not known it will be at least what the object has, compressed.
        """
        known = copy_bytes is not None
        expected = object_bytes if copy_bytes is None else copy_bytes
        told_by = "receipt" if known else "object_size"
        self._expected = {"expected_bytes": self._needed(expected), "expected_by": told_by}
        self._compare(self._needed(expected), "" if known else " and more")

    def take(self, copy_bytes: int) -> None:
        """Note what is about to be loaded. Raises RestoreNoSpace."""
        self._copy_bytes += copy_bytes
        self._compare(self._needed(self._copy_bytes), " and more")
        left, least = _free_bytes(self._settings), self._settings.least_free_bytes
        if left is not None and left < least:
            raise RestoreNoSpace(
                f"{left:,} bytes are free on the database's disk during the load, "
                f"and {least:,} stay so"
            )

    def _needed(self, copy_bytes: int) -> int:
        stored = round(self._times * copy_bytes * STORED_PER_COPIED)
        return stored + min(stored, LOGGED_MAX_BYTES)

    def _compare(self, needed: int, more: str) -> None:
        free, least = self._measured["free_bytes"], self._settings.least_free_bytes
        if free is not None and free - needed < least:
            raise RestoreNoSpace(
                f"{self._what} needs {needed:,} bytes{more} beside the present state; {free:,} "
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
