"""Readers across a restore see the old state whole, or the new one, or a clear error; no mixture.

Every project's description says how many projects there are, and a setting says it too: a reader
that sees one table old and another new, or one of them empty, is found by what it read.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg_pool import ConnectionPool

from restore_service.cutover import cut_over, drain_older
from shared.database import Lock, lock_transaction
from shared.errors import ConcurrencyConflict, CutoverBlocked
from shared.instance.events import SettingSet
from tests.plugins.instance import eventually
from tests.plugins.live import Live
from tests.plugins.postgres import TestPostgres

OLD, NEW = 300, 40
Pair = tuple[int, int]


@dataclass
class Reader(threading.Thread):
    """Reads the same fact from two tables, over and over, until told to stop.

    ``isolation`` None is autocommit. ``pool`` None keeps one connection, and prepares statements.
    """

    dsn: str
    isolation: IsolationLevel | None
    pause_s: float
    queries: tuple[str, str]
    delay_s: float = 0.0
    pool: ConnectionPool[psycopg.Connection[tuple[int]]] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    seen: set[Pair] = field(default_factory=set)
    errors: list[psycopg.Error] = field(default_factory=list)

    def __hash__(self) -> int:
        return id(self)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        time.sleep(self.delay_s)
        while not self.stop.is_set():
            try:
                self._read()
            except psycopg.Error as error:
                self.errors.append(error)

    def _read(self) -> None:
        if self.pool is not None:
            with self.pool.connection() as conn:
                conn.isolation_level = self.isolation
                conn.autocommit = self.isolation is None
                self._look(conn)
            return
        with psycopg.connect(self.dsn, prepare_threshold=1) as conn:
            conn.isolation_level = self.isolation
            conn.autocommit = self.isolation is None
            while not self.stop.is_set():
                self._look(conn)

    def _look(self, conn: psycopg.Connection[tuple[int]]) -> None:
        with conn.transaction() if self.isolation is not None else _nothing():
            first = _number(conn, self.queries[0])
            time.sleep(self.pause_s)
            second = _number(conn, self.queries[1])
        self.seen.add((first, second))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _number(conn: psycopg.Connection[tuple[int]], query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def reading(readers: list[Reader]) -> Iterator[None]:
    for reader in readers:
        reader.start()
    try:
        eventually(lambda: all(reader.seen for reader in readers), "everybody reads")
        yield
        time.sleep(0.3)
    finally:
        for reader in readers:
            reader.stop.set()
        for reader in readers:
            reader.join(20)


COUNTS = ("SELECT count(*) FROM instance.a", "SELECT count(*) FROM instance.b")


@pytest.fixture
def two_schemas(postgres: TestPostgres) -> Callable[[], str]:
    """Make a database with a live schema of OLD rows and a staging one of NEW rows, both loaded."""

    def make() -> str:
        dsn = postgres.fresh_database()
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("CREATE SCHEMA instance")
            for table in ("a", "b"):
                conn.execute(f"CREATE TABLE instance.{table} (id int)".encode())
                conn.execute(
                    f"INSERT INTO instance.{table} SELECT generate_series(1, {OLD})".encode()
                )
            conn.execute("CREATE TABLE instance.log_position (id int)")
        return dsn

    return make


def load_staging(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE SCHEMA staging")
        for table in ("a", "b"):
            conn.execute(f"CREATE TABLE staging.{table} (id int)".encode())
            conn.execute(f"INSERT INTO staging.{table} SELECT generate_series(1, {NEW})".encode())
        conn.execute("CREATE TABLE staging.log_position (id int)")


def repeatable_read_across(
    dsn: str, swap: Callable[[psycopg.Connection[tuple[int]]], None]
) -> Pair:
    """Begin a snapshot before the staging schema is loaded, look at one table, swap, at the other."""
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn, autocommit=True) as conn:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1")
        load_staging(dsn)
        done = threading.Thread(target=swap, args=(conn,))
        done.start()
        done.join(1.0)
        first = _number(reader, COUNTS[0])
        second = _number(reader, COUNTS[1])
        reader.rollback()
        done.join(20)
        return first, second


def test_a_bare_rename_shows_a_repeatable_reader_an_empty_table(
    two_schemas: Callable[[], str],
) -> None:
    def swap(conn: psycopg.Connection[tuple[int]]) -> None:
        with conn.transaction():
            conn.execute("ALTER SCHEMA instance RENAME TO before")
            conn.execute("ALTER SCHEMA staging RENAME TO instance")

    # What the protocol is there to prevent, shown to be real.
    assert repeatable_read_across(two_schemas(), swap) == (0, 0)


def test_the_same_reader_is_ended_or_sees_one_state_across_the_cut_over(
    two_schemas: Callable[[], str],
) -> None:
    def swap(conn: psycopg.Connection[tuple[int]]) -> None:
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        drain_older(conn, row[0], 0.2, lambda: None)  # type: ignore[arg-type]
        swap_now(conn)

    with pytest.raises(psycopg.OperationalError):
        repeatable_read_across(two_schemas(), swap)


def swap_now(
    conn: psycopg.Connection[tuple[int]],
    decide: Callable[[psycopg.Connection[tuple[int]]], None] = lambda _: None,
    lock_timeout_ms: int = 50,
    wait_s: float = 20,
) -> None:
    cut_over(
        conn,
        live="instance",
        staging="staging",
        before="before",
        lock_timeout_ms=lock_timeout_ms,
        wait_s=wait_s,
        decide=decide,
        look=lambda: None,
    )


def test_the_loser_of_the_decision_renames_nothing(two_schemas: Callable[[], str]) -> None:
    dsn = two_schemas()
    load_staging(dsn)

    def decide(_: psycopg.Connection[tuple[int]]) -> None:
        raise ConcurrencyConflict("somebody cancelled")

    with psycopg.connect(dsn, autocommit=True) as conn:
        with pytest.raises(ConcurrencyConflict):
            cut_over(
                conn, live="instance", staging="staging", before="before", lock_timeout_ms=50,
                wait_s=5, decide=decide, look=lambda: None,
            )  # fmt: skip
        assert _number(conn, COUNTS[0]) == OLD


def test_an_old_transaction_that_may_not_be_ended_holds_the_cut_over_up(
    two_schemas: Callable[[], str],
) -> None:
    dsn = two_schemas()
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS mere_mortal")
        admin.execute("CREATE ROLE mere_mortal; GRANT pg_read_all_stats TO mere_mortal")
    with psycopg.connect(dsn) as old, psycopg.connect(dsn, autocommit=True) as conn:
        old.execute("SELECT 1")
        conn.execute("SET ROLE mere_mortal")
        now = conn.execute("SELECT clock_timestamp()").fetchone()
        assert now is not None
        with pytest.raises(CutoverBlocked):
            drain_older(conn, now[0], 0.1, lambda: None)


def test_nobody_waits_longer_for_the_store_than_one_try_while_the_decision_waits(
    two_schemas: Callable[[], str],
) -> None:
    dsn = two_schemas()
    load_staging(dsn)

    def decide(conn: psycopg.Connection[tuple[int]]) -> None:
        lock_transaction(conn, Lock.RESTORE_APPEND)

    with psycopg.connect(dsn) as appending, psycopg.connect(dsn, autocommit=True) as conn:
        # Another process is stopped in the middle of an append.
        lock_transaction(appending, Lock.RESTORE_APPEND)
        cutting = threading.Thread(target=swap_now, args=(conn, decide))
        cutting.start()
        with psycopg.connect(dsn, autocommit=True) as reader:
            reader.execute("SET statement_timeout = '2s'")
            for _ in range(40):
                assert _number(reader, COUNTS[0]) == OLD
                time.sleep(0.01)
        appending.rollback()
        cutting.join(20)
        assert _number(conn, COUNTS[0]) == NEW


def test_the_victim_of_a_deadlock_tries_again(two_schemas: Callable[[], str]) -> None:
    dsn = two_schemas()
    load_staging(dsn)
    with psycopg.connect(dsn) as reader, psycopg.connect(dsn, autocommit=True) as conn:
        _number(reader, COUNTS[1])
        cutting = threading.Thread(target=swap_now, args=(conn,), kwargs={"lock_timeout_ms": 5000})
        cutting.start()
        # It has the first table by now, and waits for the second: each waits for the other.
        time.sleep(0.3)
        assert _number(reader, COUNTS[0]) == OLD
        reader.rollback()
        cutting.join(20)
        assert _number(conn, COUNTS[0]) == NEW


def test_readers_that_never_leave_a_moment_are_ended_and_come_behind_the_cut_over(
    two_schemas: Callable[[], str],
) -> None:
    dsn = two_schemas()
    load_staging(dsn)
    # Each holds its locks for longer than a try lasts, and there is always one.
    readers = [
        Reader(dsn, IsolationLevel.REPEATABLE_READ, 0.3, COUNTS, delay_s=0.05 * n) for n in range(6)
    ]
    with psycopg.connect(dsn, autocommit=True) as conn, reading(readers):
        swap_now(conn, wait_s=4)
    assert {pair for reader in readers for pair in reader.seen} <= {(OLD, OLD), (NEW, NEW)}
    assert [error for reader in readers for error in reader.errors]


def test_a_vacuum_of_the_server_gives_way(two_schemas: Callable[[], str]) -> None:
    dsn = two_schemas()
    load_staging(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO instance.a SELECT generate_series(1, 100000)")
        conn.execute("DELETE FROM instance.a WHERE id % 3 = 0")
        conn.execute(
            "ALTER TABLE instance.a SET (autovacuum_vacuum_threshold = 1, "
            "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, "
            "autovacuum_vacuum_cost_limit = 1)"
        )
        conn.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        conn.execute("SELECT pg_reload_conf()")
        try:
            eventually(lambda: _vacuums(conn), "the server vacuums the table")
            began = time.monotonic()
            swap_now(conn)
        finally:
            conn.execute("ALTER SYSTEM RESET autovacuum_naptime")
            conn.execute("SELECT pg_reload_conf()")
        assert time.monotonic() - began < 9
        assert _number(conn, COUNTS[1]) == NEW


def _vacuums(conn: psycopg.Connection[tuple[int]]) -> int:
    return _number(
        conn,
        "SELECT count(*) FROM pg_locks WHERE relation = 'instance.a'::regclass AND granted "
        "AND mode = 'ShareUpdateExclusiveLock'",
    )


def test_readers_of_every_kind_see_one_state_or_the_other_across_a_real_restore(
    live: Live,
) -> None:
    # The number of projects and of settings, in one state and in the other.
    queries = (
        "SELECT count(*) FROM instance.projects",
        "SELECT count(*) FROM instance.settings",
    )
    backup, key = live.backup()
    with live.admin() as conn:
        new = (_number(conn, queries[0]), _number(conn, queries[1]))
    live.append(SettingSet(name="one more", value={}))
    live.add_project("one more")
    with live.admin() as conn:
        old = (_number(conn, queries[0]), _number(conn, queries[1]))
    assert old[0] != new[0]
    assert old[1] != new[1]
    dsn = live.stack.status()["postgres_dsn"]
    repeatable, committed = IsolationLevel.REPEATABLE_READ, IsolationLevel.READ_COMMITTED
    both = "SELECT 1000000 * ({}) + ({})".format(*queries)
    backwards = queries[1], queries[0]
    each = [Reader(dsn, None, 0.0, (query, query)) for query in queries]
    one_statement = Reader(dsn, None, 0.02, (both, both))
    with ConnectionPool(dsn, min_size=2, kwargs={"prepare_threshold": 1}) as pool:
        transactions = [
            *(Reader(dsn, repeatable, pause, queries) for pause in (0.0, 0.01, 0.1)),
            # Longer ones, begun at every moment around the cut-over, and one that no try outlasts.
            *(Reader(dsn, repeatable, 0.2, queries, delay_s=0.04 * n) for n in range(5)),
            Reader(dsn, repeatable, 0.6, queries),
            # A second look of these has a snapshot of its own: the locks keep both in one state.
            *(Reader(dsn, committed, pause, queries) for pause in (0.01, 0.05)),
            Reader(dsn, committed, 0.05, backwards),
            Reader(dsn, repeatable, 0.01, queries, pool=pool),
            Reader(dsn, committed, 0.01, queries, pool=pool),
        ]
        readers = [*transactions, *each, one_statement]
        with reading(readers):
            ended = live.restore(backup, key)
            assert ended["state"] == "restored", ended["error"]
    for reader in transactions:
        states = {old, new} if reader.queries == queries else {old[::-1], new[::-1]}
        assert reader.seen <= states, reader.seen
    for number, reader in enumerate(each):
        values = {value for pair in reader.seen for value in pair}
        assert values <= {old[number], new[number]}
    sums = {1_000_000 * first + second for first, second in (old, new)}
    assert {value for pair in one_statement.seen for value in pair} <= sums
    # Nobody was there before it alone: they saw both, or were told.
    assert {pair for reader in transactions for pair in reader.seen} >= {old, new}
    for reader in readers:
        assert all(isinstance(e, psycopg.OperationalError) for e in reader.errors), reader.errors


def test_a_projector_paused_across_the_cut_over_gets_nothing_through(live: Live) -> None:
    live.add_project("its writer knows this epoch")
    backup, key = live.backup()
    pid = live.stack.pids()["projector"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # Events that the paused projector has not seen, and one more restore without it.
        live.platform.writer.append(_settings(1))
        live.platform.writer.append(_settings(2))
        restore = live.restore(backup, key)
        assert restore["state"] == "restored", restore
    finally:
        os.kill(pid, signal.SIGCONT)
    live.stack.wait_healthy()
    eventually(lambda: not live.position().fenced, "the fence closes")
    assert live.digest() == backup["digest"]
    live.add_project("the projector works on")


def _settings(number: int) -> SettingSet:
    return SettingSet(name="paused", value={"number": number})
