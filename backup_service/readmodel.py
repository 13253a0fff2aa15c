"""Read models: tables that are a fold of the service's events, fed in the same transaction.

Each can be made anew from the events, beside a running service: built in tables of its own, in one
transaction, brought up to the last event behind the append lock, and swapped in.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, LiteralString

import psycopg
from psycopg import sql

from shared.crashpoints import CrashPoint
from shared.database import LOCK_SPACE, Connection, Lock, lock_transaction, missing
from shared.errors import ConflictError
from shared.eventstore import EventStore, StoredEvent

BATCH: Final = 500
# Shorter than PostgreSQL's deadlock_timeout: who waits for the append lock with a look at the table
# behind him is let go first, and nobody is ended for it.
SWAP_TIMEOUT_MS: Final = 500
SWAP_TRIES: Final = 40
_BESIDE: Final = "_rebuilt"

BUILT = CrashPoint("backup.rebuild.built")
SWAPPED = CrashPoint("backup.rebuild.uncommitted")

_STAMPS = """
CREATE TABLE IF NOT EXISTS backup.read_models (
    name text PRIMARY KEY,
    layout integer NOT NULL
);
"""
OnProgress = Callable[[int, int], None]


def nobody_looks(_done: int, _end: int) -> None:
    """Take the progress of a rebuild that nobody waits for."""


class ReadModel(ABC):
    """A fold into ``TABLES`` of schema ``backup``. A changed ``LAYOUT`` has it made anew."""

    NAME: ClassVar[str]
    LAYOUT: ClassVar[int]
    TABLES: ClassVar[tuple[LiteralString, ...]]
    # With ``{0}``, ``{1}`` for the tables. Indexes have no names: a swap would not carry them over.
    SCHEMA: ClassVar[LiteralString]
    INDEXES: ClassVar[LiteralString]

    def __init__(self, store: EventStore) -> None:
        self._store = store
        store.feed(self.apply)

    @abstractmethod
    def apply(self, conn: Connection, events: Sequence[StoredEvent], beside: str = "") -> None:
        """Fold ``events``, which are in the store by now; a second time changes nothing."""

    def fill(
        self, conn: Connection, beside: str = "", on_progress: OnProgress = nobody_looks
    ) -> int:
        """Fold all events into empty tables; return the position up to which none is missing."""
        return self._catch_up(conn, 0, beside, on_progress)

    def migrate(self, conn: Connection) -> None:
        """Make the tables, from the events that are there, where they are missing or of old."""
        lock_transaction(conn, Lock.MIGRATION)
        # Only then: making it waits for whoever writes there, even if he stands still.
        if missing(conn, "backup.read_models"):
            conn.execute(_STAMPS)
        row = conn.execute(
            "SELECT layout FROM backup.read_models WHERE name = %s", (self.NAME,)
        ).fetchone()
        if row is None or row[0] != self.LAYOUT:
            self._store.lock_appends(conn)
            self._drop(conn)
            conn.execute(self.tables(self.SCHEMA))
            self.fill(conn)
            conn.execute(self.tables(self.INDEXES))
            conn.execute(
                "INSERT INTO backup.read_models VALUES (%s, %s) "
                "ON CONFLICT (name) DO UPDATE SET layout = EXCLUDED.layout",
                (self.NAME, self.LAYOUT),
            )

    def rebuild(self, conn: Connection, on_progress: OnProgress = nobody_looks) -> int:
        """Make the tables anew, in the caller's transaction; return the last event's position.

        Appends wait for its last moments alone, readers for nothing. ``on_progress`` is given how
        many events are folded, and of how many, about. Raises ConflictError when it is under way already,
        or readers leave no moment free.
        """
        row = conn.execute(
            "SELECT pg_try_advisory_xact_lock(%s, %s)", (LOCK_SPACE, Lock.BACKUP_REBUILD)
        ).fetchone()
        if row is None or not row[0]:
            raise ConflictError("a rebuild is under way already")
        self._drop(conn, _BESIDE)
        conn.execute(self.tables(self.SCHEMA, _BESIDE))
        position = self.fill(conn, _BESIDE, on_progress)
        # Once for all rows is several times faster than row by row.
        conn.execute(self.tables(self.INDEXES, _BESIDE))
        BUILT.reach()
        for _ in range(SWAP_TRIES):
            try:
                # Its end gives the append lock back, too.
                with conn.transaction():
                    self._store.lock_appends(conn)
                    position = self._catch_up(conn, position, _BESIDE)
                    self._swap(conn)
            except psycopg.errors.LockNotAvailable:
                time.sleep(SWAP_TIMEOUT_MS / 1000)
                continue
            SWAPPED.reach()
            return position
        raise ConflictError(f"readers left no moment free to put the rebuilt {self.NAME} in place")

    def tables(self, text: LiteralString, beside: str = "") -> sql.Composed:
        """Return ``text`` with the names of the tables for ``{0}``, ``{1}``."""
        names = [sql.Identifier("backup", table + beside) for table in self.TABLES]
        return sql.SQL(text).format(*names)

    def _drop(self, conn: Connection, beside: str = "") -> None:
        for table in self.TABLES:
            name = sql.Identifier("backup", table + beside)
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))

    def _catch_up(
        self,
        conn: Connection,
        after: int,
        beside: str,
        on_progress: OnProgress = nobody_looks,
    ) -> int:
        end = self._store.end(conn)
        while events := self._store.read_all(conn, after, BATCH):
            self.apply(conn, events, beside)
            after = events[-1].position
            on_progress(after, max(after, end))
        return after

    def _swap(self, conn: Connection) -> None:
        conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(SWAP_TIMEOUT_MS))
        self._drop(conn)
        for table in self.TABLES:
            beside = sql.Identifier("backup", table + _BESIDE)
            rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
            conn.execute(rename.format(beside, sql.Identifier(table)))
