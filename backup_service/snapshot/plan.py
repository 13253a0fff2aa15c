"""What is read in which order: ranges of pages, so that readers share a large table."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from shared.database import Connection
from shared.instance.tables import Column, TableInfo

# A range is a few seconds' work for one reader, and enough of them keep all readers busy.
RANGE_PAGES = 8192
PAGE_BYTES = 8192
KEYRING = "keyring"
# In an archive a data key stands unwrapped, and says nothing of the root key it lay under.
_WRAPPED, _ROOT_KEY_ID, _DATA_KEY = "wrapped", "root_key_id", "data_key"


@dataclass(frozen=True)
class ReadRange:
    """Pages ``first_page`` up to ``end_page`` of a table; an open end is None."""

    table: TableInfo
    first_page: int
    end_page: int | None

    def query(self) -> sql.Composed:
        """Return the COPY of this range, in the columns of ``source_columns``."""
        where = sql.SQL("WHERE ctid >= {}::tid").format(f"({self.first_page},0)")
        if self.end_page is not None:
            where += sql.SQL(" AND ctid < {}::tid").format(f"({self.end_page},0)")
        if self.first_page == 0 and self.end_page is None:
            where = sql.SQL("").format()
        return sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT binary)").format(
            sql.SQL(", ").join(sql.Identifier(name) for name in source_columns(self.table)),
            self.table.identifier,
            where,
        )


def source_columns(table: TableInfo) -> list[str]:
    """Return the columns that are read of ``table``."""
    names = [column.name for column in table.columns]
    return [name for name in names if name != _ROOT_KEY_ID] if table.name == KEYRING else names


def archive_columns(table: TableInfo) -> tuple[Column, ...]:
    """Return the columns of ``table`` as they stand in an archive."""
    if table.name != KEYRING:
        return table.columns
    return tuple(
        Column(_DATA_KEY, column.type) if column.name == _WRAPPED else column
        for column in table.columns
        if column.name != _ROOT_KEY_ID
    )


def wrapped_index(table: TableInfo) -> int:
    """Return where the wrapped key stands in a tuple of the keyring."""
    return source_columns(table).index(_WRAPPED)


def plan_reads(conn: Connection, tables: tuple[TableInfo, ...]) -> tuple[list[ReadRange], int]:
    """Return every range in the archive's order, and how many bytes they span about.

    Every table has at least one range. Call it inside the snapshot: pages that come later hold
    nothing that it sees.
    """
    ranges: list[ReadRange] = []
    total_bytes = 0
    for table in tables:
        row = conn.execute(
            "SELECT pg_relation_size(%s::regclass), pg_table_size(%s::regclass)",
            (table.identifier.as_string(conn),) * 2,
        ).fetchone()
        assert row is not None
        total_bytes += row[1]
        pages = -(-row[0] // PAGE_BYTES)
        starts = list(range(0, max(pages, 1), RANGE_PAGES))
        ranges += [
            ReadRange(table, start, None if start == starts[-1] else start + RANGE_PAGES)
            for start in starts
        ]
    return ranges, total_bytes
