"""The rows of a batch between PostgreSQL and the fold: one statement a table, each way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.instance.fold import BatchResult, LoggedEvent, fold, needs_of
from shared.instance.workingset import TABLES, Key, Needs, Row, Table, WorkingSet

Connection = psycopg.Connection[Any]


def apply_batch(
    conn: Connection, schema: str, batch: Sequence[LoggedEvent], epoch: int
) -> BatchResult:
    """Fold ``batch`` into ``schema`` in the caller's transaction.

    Memory is that of the batch and of the rows it refers to; whoever reads the log bounds it.
    """
    needs = needs_of(batch)
    working = WorkingSet()
    working.load(needs, load_rows(conn, schema, needs))
    result = fold(working, batch, epoch)
    write_rows(conn, schema, working)
    return result


def load_rows(conn: Connection, schema: str, needs: Needs) -> dict[str, list[Row]]:
    """Return the rows of ``needs`` that exist, by table."""
    # In the server's own zone the last moment of 9999, "no end" in a certificate, may be none.
    conn.execute("SET LOCAL TIME ZONE 'UTC'")
    found: dict[str, list[Row]] = {}
    for name, table in TABLES.items():
        if name in needs.whole:
            query = sql.SQL("SELECT {} FROM {}").format(_columns(table), _name(schema, table))
            found[name] = _rows(conn, query, [])
            continue
        rows = _matching(conn, schema, table, table.key, needs.keys[name])
        if needs.names[name]:
            rows += _matching(conn, schema, table, table.unique, needs.names[name])
        found[name] = rows
    return found


def _matching(
    conn: Connection, schema: str, table: Table, columns: tuple[str, ...], keys: Iterable[Key]
) -> list[Row]:
    wanted = list(keys)
    if not wanted:
        return []
    query = sql.SQL("SELECT {} FROM {} WHERE ({}) IN (SELECT * FROM unnest({}))").format(
        _columns(table),
        _name(schema, table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        _arrays(table, columns),
    )
    return _rows(conn, query, [list(values) for values in zip(*wanted, strict=True)])


def _rows(conn: Connection, query: sql.Composed, parameters: list[Any]) -> list[Row]:
    with conn.cursor(row_factory=dict_row, binary=True) as cursor:
        return cursor.execute(query, parameters).fetchall()


def write_rows(conn: Connection, schema: str, working: WorkingSet) -> None:
    """Write what the fold changed: children's removals first, then rows, parents first."""
    for (name, parent), ids in working.child_deletes.items():
        query = sql.SQL("DELETE FROM {} WHERE {} = ANY({})").format(
            _name(schema, TABLES[name]), sql.Identifier(parent), sql.SQL("%b::uuid[]")
        )
        conn.execute(query, [ids])
    for table in reversed(TABLES.values()):
        _delete(conn, schema, table, working.deleted(table.name))
    for table in TABLES.values():
        _upsert(conn, schema, table, working.written(table.name))


def _delete(conn: Connection, schema: str, table: Table, keys: list[Key]) -> None:
    if not keys:
        return
    query = sql.SQL("DELETE FROM {} WHERE ({}) IN (SELECT * FROM unnest({}))").format(
        _name(schema, table),
        sql.SQL(", ").join(map(sql.Identifier, table.key)),
        _arrays(table, table.key),
    )
    conn.execute(query, [list(values) for values in zip(*keys, strict=True)])


def _upsert(conn: Connection, schema: str, table: Table, rows: list[Row]) -> None:
    if not rows:
        return
    others = [column for column in table.columns if column not in table.key]
    update = sql.SQL(", ").join(
        sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column)) for column in others
    )
    query = sql.SQL("INSERT INTO {} ({}) SELECT * FROM unnest({}) ON CONFLICT ({}) DO {}").format(
        _name(schema, table),
        _columns(table),
        _arrays(table, tuple(table.columns)),
        sql.SQL(", ").join(map(sql.Identifier, table.key)),
        sql.SQL("UPDATE SET ") + update if others else sql.SQL("NOTHING"),
    )
    conn.execute(query, [_column(table, column, rows) for column in table.columns])


def _column(table: Table, column: str, rows: list[Row]) -> list[Any]:
    if table.columns[column] == "jsonb":
        return [None if row[column] is None else Jsonb(row[column]) for row in rows]
    return [row[column] for row in rows]


def _name(schema: str, table: Table) -> sql.Identifier:
    return sql.Identifier(schema, table.name)


def _columns(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.columns))


def _arrays(table: Table, columns: tuple[str, ...]) -> sql.Composed:
    # The types are ours, from TABLES; binary parameters spare the hex form of every value.
    return sql.SQL(", ").join(
        sql.SQL("%b::{}[]").format(sql.SQL(table.columns[column])) for column in columns
    )
