"""The rows of a store beside those of the model: read, made comparable, and what differs.

Left out is ``rejections.detail``, prose for a person. JSON compares by what it means: PostgreSQL
writes 1e2 as 100.
"""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from tests.model.state import KEYS, Row, Tables

PROSE = {("rejections", "detail")}
# What differs between two places that hold the same data keys.
OF_THE_PLACE = {("keyring", "wrapped"), ("keyring", "root_key_id")}
JSON_COLUMNS = {("secrets", "labels"), ("settings", "value")}
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename <> 'log_position'"
_loads = partial(json.loads, parse_int=Decimal, parse_float=Decimal)


def read_tables(conn: psycopg.Connection[Any], schema: str = "instance") -> Tables:
    """Return every row of ``schema`` as the connection's transaction sees it.

    A table that the model does not know fails here: nothing is left out in silence.
    """
    names = {name for (name,) in conn.execute(_TABLES, (schema,))}
    assert names == set(KEYS), f"only one of model and store has {sorted(names ^ set(KEYS))}"
    with conn.transaction():
        # A certificate may be valid to the last second of 9999; in another zone that is no datetime.
        conn.execute("SET LOCAL TIME ZONE 'UTC'")
        return {name: _read(conn, schema, name) for name in KEYS}


def _read(conn: psycopg.Connection[Any], schema: str, name: str) -> dict[tuple[Any, ...], Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        set_json_loads(_loads, cursor)
        cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name)))
        rows = cursor.fetchall()
    return {tuple(row[column] for column in KEYS[name]): row for row in rows}


def without_place(tables: Tables) -> Tables:
    """Return the rows without what differs from place to place: how data keys are wrapped."""
    return {
        name: {
            key: {c: value for c, value in row.items() if (name, c) not in OF_THE_PLACE}
            for key, row in rows.items()
        }
        for name, rows in tables.items()
    }


def differences(expected: Tables, found: Tables) -> list[str]:
    """Return a line for every row or column in which ``found`` is not ``expected``."""
    lines: list[str] = []
    for name in sorted(expected.keys() | found.keys()):
        wanted, there = expected.get(name, {}), found.get(name, {})
        lines += [f"{name} {key}: missing" for key in wanted.keys() - there.keys()]
        lines += [f"{name} {key}: not expected" for key in there.keys() - wanted.keys()]
        for key in wanted.keys() & there.keys():
            lines += _columns(name, key, wanted[key], there[key])
    return lines


def _columns(name: str, key: tuple[Any, ...], wanted: Row, there: Row) -> list[str]:
    columns = {c for c in wanted.keys() | there.keys() if (name, c) not in PROSE}
    lines = []
    for column in sorted(columns):
        pair = [_comparable(name, column, row.get(column, _NO_COLUMN)) for row in (wanted, there)]
        if pair[0] != pair[1]:
            lines.append(f"{name} {key} {column}: {pair[1]!r}, expected {pair[0]!r}")
    return lines


_NO_COLUMN = "(no such column)"


def _comparable(name: str, column: str, value: Any) -> Any:
    return _meaning(value) if (name, column) in JSON_COLUMNS else value


def _meaning(value: Any) -> Any:
    """Return what tells JSON values apart: True is not 1, and 1e2 is 100."""
    if isinstance(value, dict):
        return {name: _meaning(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_meaning(inner) for inner in value]
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, int | float | Decimal):
        return Decimal(repr(value) if isinstance(value, float) else value)
    return value
