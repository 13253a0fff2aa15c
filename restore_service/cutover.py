"""The cut-over: readers see the old state or the new one, and nothing between.

A bare rename lets a REPEATABLE READ reader see one table new and the next empty. So everything
is committed before; transactions older than that are waited for without any lock, then ended;
then all old tables are locked, in short tries; and one transaction appends the decision, renames,
and does nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

import psycopg
import structlog
from psycopg import sql

from shared.database import Connection
from shared.errors import CutoverBlocked
from shared.instance.tables import LOG_POSITION, list_tables

log = structlog.get_logger(__name__)

POLL_S = 0.05
_OLDER = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' AND xact_start IS NOT NULL AND xact_start <= %s
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
    mode.
    """
    deadline = time.monotonic() + wait_s
    while older := [row[0] for row in conn.execute(_OLDER, (committed_at,))]:
        look()
        if time.monotonic() >= deadline:
            return _end(conn, older)
        time.sleep(POLL_S)
    return 0


def _end(conn: Connection, pids: list[int]) -> int:
    log.warning("cutover.ends_sessions", sessions=len(pids))
    ended = 0
    for pid in pids:
        row = conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,)).fetchone()
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
) -> int:
    """Replace schema ``live`` by ``staging``; what was live is ``before`` afterwards.

    ``decide`` appends the decision in the same transaction; it raises ConcurrencyConflict when
    somebody decided otherwise, and nothing is renamed then. ``look`` may raise to give up between
    tries. Returns how many sessions in the way were ended. Raises CutoverBlocked.
    """
    started = time.monotonic()
    ended = 0
    while True:
        look()
        try:
            with conn.transaction():
                _lock_all(conn, live, lock_timeout_ms)
                decide(conn)
                _rename(conn, live, before)
                _rename(conn, staging, live)
            return ended
        except psycopg.errors.LockNotAvailable:
            waited = time.monotonic() - started
        if waited >= wait_s:
            raise CutoverBlocked(f"the store's tables could not be locked in {waited:.0f} s")
        if waited >= wait_s / 2:
            ended += _end(conn, [row[0] for row in conn.execute(_HOLDERS, (live,))])
        time.sleep(POLL_S)


def _lock_all(conn: Connection, schema: str, lock_timeout_ms: int) -> None:
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{lock_timeout_ms}ms",))
    names = [table.identifier for table in list_tables(conn, schema)]
    names.append(sql.Identifier(schema, LOG_POSITION))
    conn.execute(
        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ").join(names))
    )
    conn.execute("SELECT set_config('lock_timeout', '0', true)")


def _rename(conn: Connection, schema: str, name: str) -> None:
    conn.execute(
        sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(name))
    )
