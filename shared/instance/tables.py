"""The tables of an instance as the catalogue knows them: a table added later is never forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

LOG_POSITION = "log_position"

_TABLES = """
SELECT c.oid, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""
_COLUMNS = """
SELECT attrelid, attname, format_type(atttypid, atttypmod)
FROM pg_attribute WHERE attrelid = ANY(%s) AND attnum > 0 AND NOT attisdropped
ORDER BY attrelid, attnum
"""
_REFERENCES = """
SELECT conrelid, confrelid FROM pg_constraint
WHERE contype = 'f' AND conrelid = ANY(%s) AND confrelid <> conrelid
"""


@dataclass(frozen=True)
class Column:
    """A column: its name and its type as PostgreSQL writes it."""

    name: str
    type: str


@dataclass(frozen=True)
class TableInfo:
    """A table of the schema with its columns in the catalogue's order."""

    schema: str
    name: str
    columns: tuple[Column, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """Return the qualified name, quoted."""
        return sql.Identifier(self.schema, self.name)


def list_tables(conn: psycopg.Connection[Any], schema: str) -> list[TableInfo]:
    """Return every table of ``schema`` but ``log_position``; what is referred to comes first.

    The order is fixed by the catalogue alone: names decide among tables that may come next.
    """
    names = dict(conn.execute(_TABLES, (schema,)).fetchall())
    names = {oid: name for oid, name in names.items() if name != LOG_POSITION}
    oids = list(names)
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    for oid, name, kind in conn.execute(_COLUMNS, (oids,)):
        columns[oid].append(Column(name, kind))
    waits_for: dict[int, set[int]] = {oid: set() for oid in oids}
    for child, parent in conn.execute(_REFERENCES, (oids,)):
        if parent in names:
            waits_for[child].add(parent)
    ordered: list[int] = []
    while len(ordered) < len(oids):
        ready = [oid for oid in oids if oid not in ordered and waits_for[oid] <= set(ordered)]
        # Tables that refer to each other in a ring have no order: then the name decides.
        pending = ready or [oid for oid in oids if oid not in ordered]
        ordered.append(min(pending, key=names.__getitem__))
    return [TableInfo(schema, names[oid], tuple(columns[oid])) for oid in ordered]
