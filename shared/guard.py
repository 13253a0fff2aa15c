"""Who keeps whom off the instance: backups, restores, and what a person decides about its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from shared.database import Lock, postgres_faults, try_lock, unlock
from shared.errors import BackupInProgress, RestoreInProgress, SecrynError

_POLL_S: Final = 0.02


@contextmanager
def exclusive_guard(
    dsn: str,
    wait_s: float,
    look: Callable[[], None],
    busy: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hold backups off; one that is reading its snapshot is waited for, and ``busy`` called once.

    ``look`` may raise to give up. Raises BackupInProgress, PostgresUnavailable.
    """
    told = False

    def waiting() -> None:
        nonlocal told
        look()
        if not told:
            told = True
            busy()

    late = BackupInProgress(f"a backup has been reading for more than {wait_s:.0f} s")
    with _held(dsn, Lock.GUARD, wait_s, waiting, late):
        yield


@contextmanager
def no_restore(dsn: str, wait_s: float, look: Callable[[], None]) -> Iterator[None]:
    """Hold restores off, and the recovery of those that died; the latter is waited for.

    ``look`` may raise to give up. Raises RestoreInProgress, PostgresUnavailable.
    """
    late = RestoreInProgress(f"restore_service has been at work for more than {wait_s:.0f} s")
    with _held(dsn, Lock.RESTORE_WORKER, wait_s, look, late):
        yield


@contextmanager
def _held(
    dsn: str, lock: Lock, wait_s: float, look: Callable[[], None], late: SecrynError
) -> Iterator[None]:
    with (
        postgres_faults("holding the guard"),
        # Its session's end gives the lock back, also where nothing can be said to it any more.
        psycopg.connect(dsn, autocommit=True, connect_timeout=10) as conn,
    ):
        deadline = time.monotonic() + wait_s
        while not try_lock(conn, lock):
            look()
            if time.monotonic() >= deadline:
                raise late
            time.sleep(_POLL_S)
        yield
        unlock(conn, lock)
