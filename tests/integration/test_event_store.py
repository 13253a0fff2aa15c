"""The event store: one decision a version, positions that become visible in their order."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from shared.database import Lock
from shared.errors import ConcurrencyConflict
from shared.eventstore import Delivery, EventMeta, EventStore, NewEvent
from tests.outbox import META, new_store
from tests.plugins.postgres import TestPostgres


@pytest.fixture
def dsn(postgres: TestPostgres) -> str:
    return postgres.fresh_database()


@pytest.fixture
def store(dsn: str) -> EventStore:
    return new_store(dsn)


def event(name: str = "x", **more: Any) -> NewEvent:
    return NewEvent("com.secryn.test.v1", {"name": name}, **more)


def names(store: EventStore, dsn: str, stream: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        return [found.data["name"] for found in store.read_stream(conn, stream)]


# What is read back


def test_a_stream_is_read_back_as_it_was_appended(store: EventStore, dsn: str) -> None:
    data = {
        "text": 'ä\U0001f512"\\',
        "number": -7,
        "big": 2**60,
        "none": None,
        "deep": [{"a": [1]}],
    }
    first = NewEvent("one.v1", data, "backup.events", {"epoch": "3"})
    second = NewEvent("two.v1", {})
    before = datetime.now(UTC)
    with psycopg.connect(dsn) as conn:
        appended = store.append(conn, "s", 0, [first, second], EventMeta("who", "corr", "cause"))
    with psycopg.connect(dsn) as conn:
        found = store.read_stream(conn, "s")
        assert store.read_all(conn, 0, 10)[0].event_id == first.event_id
        last = store.last(conn, "s")
    assert [vars(one) for one in found] == [vars(one) for one in appended]
    one, two = found
    assert (one.stream, one.version, one.type, one.data) == ("s", 1, "one.v1", data)
    assert (one.actor, one.correlation_id, one.causation_id) == ("who", "corr", "cause")
    assert (one.event_id, one.topic, one.extensions) == (
        first.event_id, "backup.events", {"epoch": "3"},
    )  # fmt: skip
    assert (two.version, two.topic, two.data, two.extensions) == (2, None, {}, {})
    assert one.position < two.position
    assert before - timedelta(seconds=1) < one.occurred_at < datetime.now(UTC)
    assert last is not None
    assert vars(last) == vars(two)


def test_a_stream_that_nobody_wrote_is_empty_and_at_version_zero(
    store: EventStore, dsn: str
) -> None:
    with psycopg.connect(dsn) as conn:
        assert store.version(conn, "nothing") == 0
        assert store.read_stream(conn, "nothing") == []
        assert store.last(conn, "nothing") is None
        assert store.read_all(conn, 0, 10) == []


def test_many_streams_do_not_disturb_each_other(store: EventStore, dsn: str) -> None:
    """Eight threads append to thirty streams; each stream has its own events in its own order."""

    def write(stream_no: int) -> None:
        with psycopg.connect(dsn) as conn:
            for version in range(4):
                with conn.transaction():
                    name = f"{stream_no}-{version}"
                    store.append(conn, f"s{stream_no}", version, [event(name)], META)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(30)))
    for stream_no in range(30):
        assert names(store, dsn, f"s{stream_no}") == [f"{stream_no}-{v}" for v in range(4)]
    with psycopg.connect(dsn) as conn:
        everything = store.read_all(conn, 0, 1000)
        assert len(everything) == 120
        pages, after = list[int](), 0
        while page := store.read_all(conn, after, 7):
            pages += [found.position for found in page]
            after = pages[-1]
    assert pages == [found.position for found in everything] == sorted(set(pages))


def test_making_the_tables_again_changes_nothing(store: EventStore, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        (stored,) = store.append(conn, "s", 0, [event()], META)
        store.note_relayed(conn, stored.position, {})
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(new_store, [dsn] * 4))
    assert names(store, dsn, "s") == ["x"]
    with psycopg.connect(dsn) as conn:
        assert store.relayed(conn) == stored.position


# Optimistic concurrency


@pytest.mark.parametrize("expected", [0, 1, 3, -1])
def test_another_version_than_expected_is_a_conflict(
    store: EventStore, dsn: str, expected: int
) -> None:
    with psycopg.connect(dsn) as conn:
        store.append(conn, "s", 0, [event("a"), event("b")], META)
    with psycopg.connect(dsn) as conn, pytest.raises(ConcurrencyConflict, match="not at version"):
        store.append(conn, "s", expected, [event("late")], META)
    assert names(store, dsn, "s") == ["a", "b"]


def test_of_two_appends_at_the_same_version_one_wins(store: EventStore, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        store.append(conn, "s", 0, [event("begun")], META)
    together = threading.Barrier(6)

    def decide(name: str) -> str:
        with psycopg.connect(dsn) as conn:
            # Everybody has read version 1 before anybody decides.
            version = store.version(conn, "s")
            together.wait()
            try:
                store.append(conn, "s", version, [event(name)], META)
            except ConcurrencyConflict:
                return "lost"
            return name

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(decide, [f"decision-{n}" for n in range(6)]))
    (winner,) = [answer for answer in answers if answer != "lost"]
    assert names(store, dsn, "s") == ["begun", winner]


def test_an_older_snapshot_does_not_win(store: EventStore, dsn: str) -> None:
    """A transaction that does not see the other's event is stopped by the stream's versions."""
    with psycopg.connect(dsn) as old, psycopg.connect(dsn) as new:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert store.version(old, "s") == 0
        store.append(new, "s", 0, [event("first")], META)
        new.commit()
        with pytest.raises(ConcurrencyConflict, match="version 1 already"):
            store.append(old, "s", 0, [event("second")], META)
        old.rollback()
    assert names(store, dsn, "s") == ["first"]


def test_who_waits_for_a_rolled_back_decision_may_decide(store: EventStore, dsn: str) -> None:
    with psycopg.connect(dsn) as first, ThreadPoolExecutor(1) as threads:
        store.append(first, "s", 0, [event("given up")], META)

        def second() -> None:
            with psycopg.connect(dsn) as conn:
                store.append(conn, "s", 0, [event("decided")], META)

        waiting = threads.submit(second)
        time.sleep(0.2)
        assert not waiting.done()
        first.rollback()
        waiting.result(10)
    assert names(store, dsn, "s") == ["decided"]


def test_what_must_agree_with_an_append_is_lost_with_it(store: EventStore, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("CREATE TABLE backup.facts (fact text)")
        store.append(conn, "s", 0, [event()], META)
    with psycopg.connect(dsn) as conn, pytest.raises(ConcurrencyConflict), conn.transaction():
        conn.execute("INSERT INTO backup.facts VALUES ('cut over')")
        store.append(conn, "s", 0, [event()], META)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT * FROM backup.facts").fetchall() == []


@pytest.mark.parametrize("stream", ["s", "another"])
def test_the_same_event_id_is_stored_once(store: EventStore, dsn: str, stream: str) -> None:
    once = event("once")
    with psycopg.connect(dsn) as conn:
        store.append(conn, "s", 0, [once], META)
    with psycopg.connect(dsn) as conn, pytest.raises(ConcurrencyConflict) as caught:
        store.append(conn, stream, store.version(conn, stream), [event("new"), once], META)
    assert str(once.event_id) in caught.value.message
    assert names(store, dsn, "s") == ["once"]
    assert names(store, dsn, "another") == []


# The order in which positions become visible


def test_a_position_drawn_first_is_visible_first(store: EventStore, dsn: str) -> None:
    """Two transactions: the one that drew its position first commits last, as far as it can."""
    seen = list[int]()
    with (
        psycopg.connect(dsn) as early,
        psycopg.connect(dsn, autocommit=True) as reader,
        ThreadPoolExecutor(1) as threads,
    ):

        def read_on() -> None:
            seen.extend(e.position for e in store.read_all(reader, seen[-1] if seen else 0, 10))

        (first,) = store.append(early, "slow", 0, [event()], META)

        def append_late() -> int:
            with psycopg.connect(dsn) as late:
                return store.append(late, "quick", 0, [event()], META)[0].position

        late_position = threads.submit(append_late)
        time.sleep(0.3)
        read_on()
        assert seen == []
        assert not late_position.done()
        early.commit()
        second = late_position.result(10)
        read_on()
    assert seen == [first.position, second]


def test_a_reader_by_position_passes_nothing_that_commits_late(store: EventStore, dsn: str) -> None:
    """Writers that dawdle before they commit, and some that roll back; a reader that follows."""
    written, seen, done = set[int](), list[int](), threading.Event()

    def write(number: int) -> None:
        dice = random.Random(number)
        with psycopg.connect(dsn) as conn:
            for version in range(12):
                stored = store.append(conn, f"s{number}-{version}", 0, [event(), event()], META)
                time.sleep(dice.random() * 0.01)
                if dice.random() < 0.2:
                    conn.rollback()
                    continue
                conn.commit()
                written.update(found.position for found in stored)

    def follow() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            while True:
                ended = done.is_set()
                page = store.read_all(conn, seen[-1] if seen else 0, 5)
                seen.extend(found.position for found in page)
                if ended and not page:
                    return

    with ThreadPoolExecutor(9) as threads:
        following = threads.submit(follow)
        for writing in [threads.submit(write, number) for number in range(8)]:
            writing.result(30)
        done.set()
        following.result(10)
    assert len(written) > 100
    assert seen == sorted(written)


def test_the_stores_of_two_services_do_not_hold_each_other_up(store: EventStore, dsn: str) -> None:
    other = EventStore("restore", Lock.RESTORE_APPEND)
    with psycopg.connect(dsn) as mine, psycopg.connect(dsn) as theirs:
        other.migrate(theirs)
        theirs.commit()
        theirs.execute("SET lock_timeout = '5s'")
        store.append(mine, "s", 0, [event("mine")], META)
        other.append(theirs, "s", 0, [event("theirs")], META)
    assert names(store, dsn, "s") == ["mine"]
    assert names(other, dsn, "s") == ["theirs"]


# What the relay notes


def test_notes_of_the_relay_go_forward_only_and_keep_the_first_place(
    store: EventStore, dsn: str
) -> None:
    with psycopg.connect(dsn) as conn:
        a, b = store.append(conn, "s", 0, [event("a"), event("b")], META)
        store.note_relayed(conn, b.position, {a: Delivery("t", 4), b: Delivery("t", 5)})
        # A leader of before comes late with what it had sent.
        store.note_relayed(conn, a.position, {a: Delivery("t", 9)})
        assert store.relayed(conn) == b.position
        assert store.delivery(conn, a.event_id) == Delivery("t", 4)
        assert store.delivery(conn, uuid4()) is None
        assert store.last_delivered(conn, "t") == (b.event_id, 5)
        assert store.last_delivered(conn, "u") is None
        # A log that was lost was longer than the one of now.
        (c,) = store.append(conn, "s", 2, [event("c")], META)
        store.note_relayed(conn, c.position, {c: Delivery("t", 0)})
        assert store.last_delivered(conn, "t") == (c.event_id, 0)


def test_a_relay_has_one_position(store: EventStore, dsn: str) -> None:
    query = sql.SQL("INSERT INTO {}.relay (one_row, position) VALUES (%s, 0)")
    for value in (True, False):
        with psycopg.connect(dsn) as conn, pytest.raises(psycopg.errors.IntegrityError):
            conn.execute(query.format(sql.Identifier(store.schema)), (value,))
