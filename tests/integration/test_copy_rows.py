"""Reading a COPY: every row, every failure, and never at the cost of other threads."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from psycopg import sql

from shared.archive.copybinary import split_fields
from shared.copyout import copy_rows
from tests.plugins.postgres import TestPostgres

SLOW_S = 1.0


def copy(query: str) -> sql.Composed:
    return sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(sql.SQL(query))


def test_every_row_comes_once_and_the_connection_goes_on(postgres: TestPostgres) -> None:
    with psycopg.connect(postgres.fresh_database()) as conn:
        rows = list(
            copy_rows(conn, copy("SELECT n, repeat('x', n) FROM generate_series(0, 999) n"))
        )
        assert [len(split_fields(bytes(row))[1] or b"") for row in rows] == list(range(1000))
        assert list(copy_rows(conn, copy("SELECT 1 WHERE false"))) == []
        assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "query", ["SELECT 1 / (500 - n) FROM generate_series(1, 999) n", "SELECT x"]
)
def test_a_failure_is_never_the_end_of_the_rows(postgres: TestPostgres, query: str) -> None:
    with psycopg.connect(postgres.fresh_database()) as conn:
        with pytest.raises(psycopg.Error) as failed:
            list(copy_rows(conn, copy(query)))
        assert failed.value.sqlstate in {"22012", "42703"}
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_a_lost_connection_is_never_the_end_of_the_rows(postgres: TestPostgres) -> None:
    dsn = postgres.fresh_database()
    with psycopg.connect(dsn) as conn, psycopg.connect(dsn, autocommit=True) as other:
        # More than any buffer on the way holds.
        rows = copy_rows(conn, copy("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
        next(rows)
        other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            list(rows)


def test_other_threads_go_on_while_the_server_thinks(postgres: TestPostgres) -> None:
    slow = copy(
        f"SELECT repeat('x', 100000) UNION ALL SELECT pg_sleep({SLOW_S})::text"
    )  # The first row is more than the server holds back.
    pauses: list[float] = []
    done = threading.Event()

    def tick() -> None:
        last = time.monotonic()
        while not done.wait(0.005):
            pauses.append(time.monotonic() - last)
            last = time.monotonic()

    thread = threading.Thread(target=tick, daemon=True)
    with psycopg.connect(postgres.fresh_database()) as conn:
        thread.start()
        assert len(list(copy_rows(conn, slow))) == 2
        done.set()
        thread.join()
    assert max(pauses) < SLOW_S * 0.8
