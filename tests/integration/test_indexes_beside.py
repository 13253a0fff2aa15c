"""The indexes of a loaded schema are built while its rows are read, and given up with the reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from restore_service.hashing import Hashing
from restore_service.indexing import indexes_built
from restore_service.staging import drop_schema, staging_name
from shared.database import Connection
from shared.errors import Cancelled
from shared.instance.migrate import create_constraints, create_tables, newest_version
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring

SCHEMA = staging_name("0ff1ce00-0000-4000-8000-000000000000")
# What a schema is made of, as the catalogue spells it, apart from the schema's own name.
_MADE_OF = """
SELECT pg_get_indexdef(indexrelid), indisunique, indisprimary, indimmediate FROM pg_index i
JOIN pg_class c ON c.oid = indrelid WHERE c.relnamespace = %(schema)s::regnamespace AND relkind = 'r'
UNION ALL
SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid),
       condeferrable, condeferred, convalidated
FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace AND conrelid <> 0
ORDER BY 1
"""


@pytest.fixture
def hashing(postgres: TestPostgres, tmp_path: Path) -> Iterator[Hashing]:
    """Where a loaded schema without indexes lies."""
    with_place = Restoring.create(postgres, tmp_path)
    found = Hashing(with_place.context.settings.postgres.dsn, processes=2, rehearsing=False)
    with found.connect() as conn:
        with conn.transaction():
            create_tables(conn, SCHEMA)
        yield found
        drop_schema(conn, SCHEMA)


def made_of(conn: Connection, schema: str) -> list[tuple[object, ...]]:
    rows = conn.execute(_MADE_OF, {"schema": schema}).fetchall()
    return [(str(row[0]).replace(f"{schema}.", ""), *row[1:]) for row in rows]


def test_they_are_built_while_every_table_is_read(hashing: Hashing) -> None:
    with hashing.connect() as reader, hashing.connect() as conn:
        tables = [
            row[0]
            for row in conn.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]
            )
        ]
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1

        with reader.transaction():
            for name in tables:
                reader.execute(f'SELECT FROM "{SCHEMA}"."{name}"'.encode())
            with indexes_built(hashing.connect, SCHEMA, newest_version()) as wait_for_indexes:
                wait_for_indexes(look)
        assert looks < 50, "they waited for the reader"
        with conn.transaction():
            create_constraints(conn, SCHEMA)
        assert made_of(conn, SCHEMA) == made_of(conn, "instance") != []


def test_a_comparison_that_is_given_up_gives_them_up(hashing: Hashing) -> None:
    with hashing.connect() as writer, writer.transaction():
        # They wait for whoever writes, and that is here longer than a test waits.
        writer.execute(f'LOCK TABLE "{SCHEMA}".secrets IN ROW EXCLUSIVE MODE'.encode())
        with (
            pytest.raises(Cancelled),
            indexes_built(hashing.connect, SCHEMA, newest_version()),
        ):
            eventually(lambda: waiting(writer), "they wait for the writer")
            raise Cancelled("no more")
        assert not waiting(writer)
    with hashing.connect() as conn:
        assert not [each for each in made_of(conn, SCHEMA) if "INDEX" in str(each[0])]


def waiting(conn: Connection) -> bool:
    row = conn.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
        [f"{SCHEMA}.secrets"],
    ).fetchone()
    return row != (0,)


def test_rows_that_break_a_rule_are_told_behind_the_block(hashing: Hashing) -> None:
    with hashing.connect() as conn:
        conn.execute(
            f'INSERT INTO "{SCHEMA}".settings (name, updated_at, updated_by) '
            "SELECT 'twice', now(), 'me' FROM generate_series(1, 2)".encode()
        )
    compared = False
    with (
        pytest.raises(psycopg.errors.UniqueViolation),
        indexes_built(hashing.connect, SCHEMA, newest_version()),
    ):
        compared = True
    assert compared
