"""PostgreSQL: the pool of a process, its errors as ours, and every advisory lock in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from shared.errors import PostgresUnavailable, StackUnsupportedServer
from shared.settings import PostgresSettings

Connection = psycopg.Connection[Any]
Pool = ConnectionPool[Connection]

LEAST_VERSION = 140_000

# The last one is a session that the server ended because this process stood still in it.
_LOST = (psycopg.OperationalError, PoolTimeout, psycopg.errors.IdleInTransactionSessionTimeout)

# The first half of every advisory lock's key: locks of others cannot meet ours.
LOCK_SPACE = 0x5EC2
LIVENESS_SPACE = 0x5EC3


class Lock(IntEnum):
    """The second half: what the lock is for."""

    GUARD = 1
    """Shared by backups until their snapshot is read; exclusive while a restore fences."""
    MIGRATION = 2
    ADMINISTRATOR = 3
    """Of whoever makes an administrator: a bootstrap credential makes one and no second."""
    BACKUP_APPEND = 10
    BACKUP_RELAY = 11
    BACKUP_WORKER = 12
    BACKUP_SCHEDULE = 13
    """Of the replica that takes the ticks; the others wait for it."""
    BACKUP_VERIFIER = 14
    """Of whoever reads stored backups back by themselves."""
    BACKUP_REBUILD = 15
    """Of whoever makes read models anew: one at a time."""
    RESTORE_APPEND = 20
    RESTORE_RELAY = 21
    RESTORE_WORKER = 22
    """Of whoever restores or recovers; who decides about the log takes it to keep both off."""
    REHEARSAL_WORKER = 23
    REHEARSING = 24
    """Shared by the sessions of rehearsals: they never read the instance, and no cut-over waits."""


def open_pool(settings: PostgresSettings, name: str) -> Pool:
    """Open a pool of at most ``settings.pool_max`` connections.

    Raises PostgresUnavailable, and StackUnsupportedServer when the server is too old.
    """
    pool: Pool = ConnectionPool(
        settings.dsn,
        min_size=1,
        max_size=settings.pool_max,
        timeout=settings.connect_timeout_s,
        name=name,
        kwargs={
            "application_name": psycopg.conninfo.conninfo_to_dict(settings.dsn).get(
                "application_name", name
            ),
            "connect_timeout": settings.connect_timeout_s,
        },
        check=ConnectionPool.check_connection,
        open=False,
    )
    with postgres_faults("connecting"):
        pool.open(wait=True, timeout=settings.connect_timeout_s)
        with pool.connection() as conn:
            version = conn.info.server_version
    try:
        check_version(version)
    except StackUnsupportedServer:
        pool.close()
        raise
    return pool


def check_version(version: int) -> None:
    """Refuse a server (``version`` as libpq says it) that is too old. Raises StackUnsupportedServer."""
    if version < LEAST_VERSION:
        raise StackUnsupportedServer(
            f"PostgreSQL is {version // 10_000}, and {LEAST_VERSION // 10_000} or newer is needed"
        )


@contextmanager
def postgres_faults(doing: str) -> Iterator[None]:
    """Raise lost and refused connections as PostgresUnavailable; other errors as they are."""
    try:
        yield
    except _LOST as error:
        raise PostgresUnavailable(
            f"PostgreSQL failed while {doing} ({type(error).__name__})"
        ) from error


def missing(conn: Connection, relation: str) -> bool:
    """Tell whether there is no table or index of that name; waits for nobody."""
    row = conn.execute("SELECT to_regclass(%s) IS NULL", (relation,)).fetchone()
    return bool(row and row[0])


def try_lock(conn: Connection, lock: Lock, *, shared: bool = False) -> bool:
    """Take a lock of the session if it is free; tell whether it was."""
    function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    row = conn.execute(f"SELECT {function}(%s, %s)", (LOCK_SPACE, lock)).fetchone()
    return bool(row and row[0])


def unlock(conn: Connection, lock: Lock, *, shared: bool = False) -> None:
    """Give a lock of the session back."""
    function = "pg_advisory_unlock_shared" if shared else "pg_advisory_unlock"
    conn.execute(f"SELECT {function}(%s, %s)", (LOCK_SPACE, lock))


def lock_transaction(conn: Connection, lock: Lock) -> None:
    """Wait for a lock that the end of the transaction gives back."""
    conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK_SPACE, lock))


def hold_liveness(conn: Connection, process: UUID) -> None:
    """Show that ``process`` lives, for as long as the session of ``conn`` does."""
    conn.execute("SELECT pg_advisory_lock(%s, %s)", (LIVENESS_SPACE, _lock_of(process)))


def is_alive(conn: Connection, process: UUID) -> bool:
    """Tell whether a session holds the liveness of ``process``."""
    row = conn.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND classid = %s AND objid = %s AND objsubid = 2",
        (LIVENESS_SPACE, _lock_of(process)),
    ).fetchone()
    return bool(row and row[0])


def _lock_of(process: UUID) -> int:
    return process.int & 0x7FFFFFFF
