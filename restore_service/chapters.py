"""Chapters: what is loaded of a table in one COPY, and where its rows lie.

PostgreSQL puts the rows of a COPY one behind the other, and gives them back in that order. So a
chapter that went in and one that comes out can be compared by one hash over all of its bytes, which
costs less than half of a hash for each row. A table whose rows come out in another order is not
wrong: it takes the digest, which knows of no order, to tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from shared.archive.copybinary import HEADER, TRAILER, inner_pieces
from shared.archive.parts import Part
from shared.database import Connection
from shared.errors import ArchiveMalformed
from shared.instance.digest import digest_query
from shared.instance.tables import TableInfo

# Under a second's work for one process; a restore of a few hundred megabytes has some for each.
CHAPTER_BYTES: Final = 32 << 20
NOWHERE: Final = "(0,0)"
# A relation grows by up to 64 pages at a time, and the last of them may be empty.
_TAIL_PAGES: Final = 128
_PAGES = "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::int"


@dataclass(frozen=True)
class Chapter:
    """Rows of a table behind the row ``after``, up to ``last``: how many, and the SHA-256 of all."""

    table: str
    after: str
    last: str
    rows: int
    size_bytes: int
    sha256: str

    def query(self, table: TableInfo, *, is_final: bool) -> sql.Composed:
        """Return the COPY of its rows; of the final one, with whatever stands behind its end."""
        where = sql.SQL("WHERE ctid > {}::tid").format(self.after)
        if not is_final:
            where += sql.SQL(" AND ctid <= {}::tid").format(self.last)
        return digest_query(table, where)


class ChapterWriter:
    """Loads one chapter; ``close`` or ``abort`` ends it.

    Its table was made in the transaction of ``conn``, nobody else writes it, and until then nothing
    else can be done over ``conn``.
    """

    def __init__(
        self, conn: Connection, table: sql.Identifier, columns: Sequence[str], name: str, after: str
    ) -> None:
        self.table = name
        self.size_bytes = 0
        self._conn = conn
        self._identifier = table
        self._after = after
        self._hash = hashlib.sha256()
        self._cursor = conn.cursor()
        self._stack = ExitStack()
        self._copy = self._stack.enter_context(self._cursor.copy(copy_in(table, columns)))
        self._ahead: bytes = HEADER

    def write(self, part: Part) -> None:
        """Load one more part of the table. Raises ArchiveMalformed where that is no COPY stream."""
        self._begin()
        for piece in inner_pieces(part.pieces):
            self._copy.write(piece)
            self._hash.update(piece)
            self.size_bytes += len(piece)

    def close(self) -> Chapter:
        """Load the rest, and return what the chapter is.

        Raises ArchiveMalformed for what PostgreSQL does not take of all that was written.
        """
        try:
            with self._stack:
                self._begin()
                self._copy.write(TRAILER)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise not_taken(self.table, error) from None
        rows, last = self._cursor.rowcount, self._after
        if rows:
            last = self._last_row()
        return Chapter(self.table, self._after, last, rows, self.size_bytes, self._hash.hexdigest())

    def abort(self, error: BaseException) -> None:
        """Give it up, with the transaction."""
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _begin(self) -> None:
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._copy.write(ahead)

    def _last_row(self) -> str:
        """Return where the last row lies: on one of the last pages, or else behind ``after``."""
        name = self._identifier.as_string(self._conn)
        row: Any = self._conn.execute(_PAGES, (name,)).fetchone()
        tail = f"({max(row[0] - _TAIL_PAGES, 0)},0)"
        for begin in (tail, self._after):
            query = sql.SQL(
                "SELECT max(ctid)::text FROM {} WHERE ctid > {}::tid AND ctid >= {}::tid"
            )
            row = self._conn.execute(query.format(self._identifier, self._after, begin)).fetchone()
            if row[0] is not None:
                return str(row[0])
        raise AssertionError(f"{self.table} has rows, and none of them is the last")


def copy_in(table: sql.Identifier, columns: Sequence[str]) -> sql.Composed:
    """Return the COPY that loads a table which was made in the same transaction."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )


def not_taken(table: str, error: psycopg.Error) -> ArchiveMalformed:
    """Return what to raise where PostgreSQL does not take what is loaded into ``table``."""
    # The server's own message may repeat a value.
    kind: Any = type(error).__name__
    return ArchiveMalformed(f"PostgreSQL does not take a part of {table} ({kind})")
