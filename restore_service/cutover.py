"""The cut-over: readers see the old state or the new one, and nothing between.

A bare rename lets a REPEATABLE READ reader see one table new and the next empty. So everything
is committed before; transactions older than that are waited for without any lock, then ended;
then all old tables are locked, in short tries; and one transaction appends the decision, renames,
and does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import LiteralString

import psycopg
import structlog
from psycopg import sql

from shared.database import LOCK_SPACE, Connection, Lock
from shared.errors import CutoverBlocked
from shared.instance.tables import LOG_POSITION, list_tables

log = structlog.get_logger(__name__)

POLL_S = 0.05
# A process that stands still with the locks in its hand has the server end its session.
IDLE_MS = 10_000
VACUUM_ENDS_MS = 1000
_OLDER = """
SELECT pid FROM pg_stat_activity a
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' AND xact_start IS NOT NULL AND xact_start <= %s
  AND NOT EXISTS (
    SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
    AND l.database = a.datid AND l.classid = %s AND l.objid = %s
  )
"""
_HOLDERS = """
SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted AND n.nspname = %s AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def drain_older(
    conn: Connection, committed_at: datetime, wait_s: float, look: Callable[[], None]
) -> int:
    """Wait until no transaction is older than ``committed_at``; end those that stay.

    ``look`` may raise to give up. Returns how many sessions were ended. ``conn`` is in autocommit
    mode. Raises CutoverBlocked when some cannot be ended: they would see a mixture.
    """
    deadline = time.monotonic() + wait_s
    while older := _older(conn, committed_at):
        look()
        if time.monotonic() >= deadline:
            ended = _end(conn, older)
            if left := _older(conn, committed_at):
                raise CutoverBlocked(f"{len(left)} older transactions could not be ended")
            return ended
        time.sleep(POLL_S)
    return 0


def _older(conn: Connection, committed_at: datetime) -> list[int]:
    # A rehearsal has a long transaction in a schema of its own, and reads nothing of the instance.
    rows = conn.execute(_OLDER, (committed_at, LOCK_SPACE, Lock.REHEARSING))
    return [row[0] for row in rows]


def _end(conn: Connection, pids: list[int], *, wait_ms: int = 5000) -> int:
    log.warning("cutover.ends_sessions", sessions=len(pids))
    ended = 0
    for pid in pids:
        try:
            row = conn.execute("SELECT pg_terminate_backend(%s, %s)", (pid, wait_ms)).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            # A superuser's, or one of the server's own: only a superuser ends those.
            log.warning("cutover.session_not_ended", pid=pid)
            continue
        ended += bool(row and row[0])
    return ended


def cut_over(
    conn: Connection,
    *,
    live: str,
    staging: str,
    before: str,
    lock_timeout_ms: int,
    wait_s: float,
    decide: Callable[[Connection], None],
    look: Callable[[], None],
    renamed: Callable[[], None] = lambda: None,
) -> int:
    """Replace schema ``live`` by ``staging``; what was live is ``before`` afterwards.

    ``decide`` appends the decision in the same transaction; it raises ConcurrencyConflict when
    somebody decided otherwise, and nothing is renamed then. ``look`` may raise to give up between
    tries; ``renamed`` is called before the commit. Returns how many sessions in the way were
    ended. Raises CutoverBlocked.
    """
    started = time.monotonic()
    ended = 0
    while True:
        look()
        if time.monotonic() - started >= wait_s / 2:
            ended += _end_holders(conn, live)
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}")
                _lock_all(conn, live, lock_timeout_ms)
                decide(conn)
                _rename(conn, live, before)
                _rename(conn, staging, live)
                renamed()
            return ended
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            waited = time.monotonic() - started
        if waited >= wait_s:
            raise CutoverBlocked(f"the store's tables could not be locked in {waited:.0f} s")
        _move_vacuum(conn, live)
        time.sleep(POLL_S)


def _end_holders(conn: Connection, schema: str) -> int:
    """End whoever holds a lock on a table of ``schema``, right before the next try.

    Nobody is waited for: who comes meanwhile would hold the locks in their place. The try waits, and
    whoever comes behind it waits for it.
    """
    return _end(conn, [row[0] for row in conn.execute(_HOLDERS, (schema,))], wait_ms=0)


def _move_vacuum(conn: Connection, schema: str) -> None:
    """Let the server end its own vacuum of a table, which it does for whoever waits long enough.

    That is longer than one of our tries (``deadlock_timeout``). In this mode nobody who reads or
    writes rows has to wait meanwhile.
    """
    row = conn.execute(
        "SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout'"
    ).fetchone()
    assert row is not None
    for table in _tables(conn, schema):
        with (
            suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected),
            conn.transaction(),
        ):
            _lock(conn, [table], "SHARE UPDATE EXCLUSIVE", row[0] + VACUUM_ENDS_MS)


def _lock_all(conn: Connection, schema: str, lock_timeout_ms: int) -> None:
    # The time-out stays for the rest of the transaction: while it waits for the decision's turn
    # nobody reads, and that is one short try, too.
    _lock(conn, _tables(conn, schema), "ACCESS EXCLUSIVE", lock_timeout_ms)


def _tables(conn: Connection, schema: str) -> list[sql.Identifier]:
    names = [table.identifier for table in list_tables(conn, schema)]
    return [*names, sql.Identifier(schema, LOG_POSITION)]


def _lock(
    conn: Connection, tables: list[sql.Identifier], mode: LiteralString, timeout_ms: int
) -> None:
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{timeout_ms}ms",))
    conn.execute(
        sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.SQL(", ").join(tables), sql.SQL(mode))
    )


def _rename(conn: Connection, schema: str, name: str) -> None:
    conn.execute(
        sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(name))
    )
