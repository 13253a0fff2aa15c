"""The guard between backups and restores: held shared until the snapshot is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from backup_service.snapshot.session import INSTANCE_SCHEMA
from shared.database import Connection, Lock, postgres_faults, try_lock, unlock
from shared.errors import LogLost, RestoreInProgress
from shared.instance.position import read_position

POLL_S = 0.1


@contextmanager
def hold_guard(dsn: str, *, wait: bool, look: Callable[[], None]) -> Iterator[None]:
    """Hold restores off until the snapshot was read.

    With ``wait`` a restore that is under way is waited for, and ``look`` may raise to give up.
    Raises RestoreInProgress without.
    """
    with (
        postgres_faults("holding the guard"),
        # Its session's end gives the lock back, also where nothing can be said to it any more.
        psycopg.connect(dsn, autocommit=True, connect_timeout=10) as conn,
    ):
        while not _taken(conn, wait):
            look()
            time.sleep(POLL_S)
        yield
        unlock(conn, Lock.GUARD, shared=True)


def _taken(conn: Connection, wait: bool) -> bool:
    if not try_lock(conn, Lock.GUARD, shared=True):
        if not wait:
            raise RestoreInProgress("a restore is about to fence the instance")
        return False
    # While we hold it no fence is raised; one that is open was raised before.
    if wait and open_fence(conn) is not None:
        unlock(conn, Lock.GUARD, shared=True)
        return False
    return True


def open_fence(conn: Connection) -> str | None:
    """Return the restore behind whose fence the instance is, or None."""
    exists = conn.execute("SELECT to_regclass('instance.log_position')").fetchone()
    if exists is None or exists[0] is None:
        return None
    try:
        position = read_position(conn, INSTANCE_SCHEMA)
    except LogLost:
        return None
    return str(position.fence_restore_id) if position.fenced else None
