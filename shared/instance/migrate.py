"""Build and migrate the tables of an instance, in a schema of any name.

A version is three files: ``NNNN_tables.sql``, ``NNNN_indexes.sql`` and ``NNNN_constraints.sql``. A
restore makes the tables of the archive's version, loads them, builds the indexes while it reads
them, adds the constraints, and then migrates forward with the same files that the projector uses.
The version stands in the schema's comment, so that it travels with the schema when that is renamed.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from shared.errors import SchemaTooNew
from shared.instance.tables import LOG_POSITION

_CREATES = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_INDEXES = re.compile(r"^CREATE (?:UNIQUE )?INDEX (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"^secryn schema (\d+)$")


@cache
def _scripts() -> dict[tuple[int, str], LiteralString]:
    found: dict[tuple[int, str], LiteralString] = {}
    for entry in files("shared.instance.schema").iterdir():
        if matched := re.match(r"^(\d{4})_(tables|indexes|constraints)\.sql$", entry.name):
            # Our own files, not input: what makes them literal for the driver.
            text: Any = entry.read_text(encoding="utf-8")
            found[int(matched[1]), matched[2]] = text
    return found


def newest_version() -> int:
    """Return the schema version that this software writes."""
    return max(version for version, _ in _scripts())


def tables_of_version(version: int) -> frozenset[str]:
    """Return the tables that a backup of schema ``version`` contains. Raises SchemaTooNew."""
    names: set[str] = set()
    for number in range(1, _known(version) + 1):
        names |= set(_CREATES.findall(_scripts()[number, "tables"]))
    return frozenset(names - {LOG_POSITION})


def indexes_of_version(version: int) -> frozenset[str]:
    """Return the indexes that a schema of ``version`` has, ``log_position``'s too."""
    names: set[str] = set()
    for number in range(1, _known(version) + 1):
        names |= set(_INDEXES.findall(_scripts()[number, "indexes"]))
    return frozenset(names)


def schema_version(conn: psycopg.Connection[Any], schema: str) -> int:
    """Return the version of ``schema``; 0 when it does not exist or is not an instance's."""
    row = conn.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s",
        (schema,),
    ).fetchone()
    matched = _COMMENT.match(str(row[0])) if row is not None else None
    return int(matched[1]) if matched else 0


def create_tables(conn: psycopg.Connection[Any], schema: str, version: int | None = None) -> None:
    """Make ``schema`` and its tables at ``version`` (default: the newest), ready for a load.

    Runs in the caller's transaction. Raises SchemaTooNew for a version unknown here.
    """
    version = _known(version)
    conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    _run_all(conn, schema, version, "tables")
    _note(conn, schema, version)


def create_indexes(conn: psycopg.Connection[Any], schema: str, version: int | None = None) -> None:
    """Build what takes time in the size of the tables of ``version``; others may read meanwhile."""
    _run_all(conn, schema, _known(version), "indexes")


def create_constraints(
    conn: psycopg.Connection[Any], schema: str, version: int | None = None
) -> None:
    """Add the keys and rules of ``version``, which needs its indexes and takes a moment."""
    _run_all(conn, schema, _known(version), "constraints")


def migrate(conn: psycopg.Connection[Any], schema: str, version: int | None = None) -> int:
    """Bring ``schema`` forward to ``version`` (default: the newest); return what it was.

    Runs in the caller's transaction, who holds the migration lock where several may migrate.
    Raises SchemaTooNew when the schema is newer than this software.
    """
    target = _known(version)
    present = schema_version(conn, schema)
    if present > newest_version():
        raise SchemaTooNew(f"the schema {schema} has version {present}, known is {target}")
    if present == 0:
        create_tables(conn, schema, target)
        create_indexes(conn, schema, target)
        create_constraints(conn, schema, target)
        return 0
    for number in range(present + 1, target + 1):
        for part in ("tables", "indexes", "constraints"):
            _run(conn, schema, number, part)
    if target > present:
        _note(conn, schema, target)
    return present


def _known(version: int | None) -> int:
    if version is None:
        return newest_version()
    if not 1 <= version <= newest_version():
        raise SchemaTooNew(f"schema version {version} is not known here ({newest_version()} is)")
    return version


def _run_all(conn: psycopg.Connection[Any], schema: str, version: int, part: str) -> None:
    for number in range(1, version + 1):
        _run(conn, schema, number, part)


def _run(conn: psycopg.Connection[Any], schema: str, version: int, part: str) -> None:
    before = conn.execute("SELECT current_setting('search_path')").fetchone()
    conn.execute("SELECT set_config('search_path', %s, true)", (f'"{schema}"',))
    conn.execute(_scripts()[version, part])
    conn.execute("SELECT set_config('search_path', %s, true)", before)


def _note(conn: psycopg.Connection[Any], schema: str, version: int) -> None:
    conn.execute(
        sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
            sql.Identifier(schema), sql.Literal(f"secryn schema {version}")
        )
    )
