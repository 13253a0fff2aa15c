"""A replica that stands still loses its sessions, and with them its locks; one that moves keeps them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from serving.pulse import Pulse, process_name
from shared.database import Connection, Lock, try_lock
from shared.settings import PostgresSettings
from tests.plugins.instance import eventually
from tests.plugins.postgres import PlaceDatabase, TestPostgres

SILENT_S = 0.6


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    return postgres.fresh_place()


def dsn(place: PlaceDatabase, name: str, role: str = "secryn_restore") -> str:
    return PostgresSettings(dsn=place.dsn(role)).named(name).dsn


@pytest.fixture
def watching(place: PlaceDatabase) -> Iterator[tuple[Pulse, Connection]]:
    """Give the pulse of one process, and its session."""
    name = process_name("restore_service")
    pulse = Pulse(dsn(place, name), name, silent_s=SILENT_S)
    with psycopg.connect(pulse.dsn, autocommit=True) as conn:
        yield pulse, conn


def look_for(pulse: Pulse, conn: Connection, seconds: float) -> None:
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        pulse.look(conn)
        time.sleep(0.05)


def is_there(other: Connection) -> bool:
    try:
        other.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_the_locks_of_a_replica_that_stands_still_become_free(
    place: PlaceDatabase, watching: tuple[Pulse, Connection]
) -> None:
    pulse, conn = watching
    name = process_name("restore_service")
    with (
        psycopg.connect(dsn(place, name), autocommit=True) as holder,
        psycopg.connect(dsn(place, name)) as in_transaction,
    ):
        assert try_lock(holder, Lock.RESTORE_WORKER)
        in_transaction.execute("SELECT 1")
        look_for(pulse, conn, SILENT_S / 3)
        assert not try_lock(conn, Lock.RESTORE_WORKER)
        look_for(pulse, conn, 2 * SILENT_S)
        eventually(lambda: try_lock(conn, Lock.RESTORE_WORKER), "the lock is free", 5)
        assert not is_there(holder)
        assert not is_there(in_transaction)


def test_one_moving_session_shows_that_all_of_its_process_go_on(
    place: PlaceDatabase, watching: tuple[Pulse, Connection]
) -> None:
    pulse, conn = watching
    name, over = process_name("restore_service"), threading.Event()

    def beat() -> None:
        with psycopg.connect(dsn(place, name), autocommit=True) as heart:
            while not over.wait(0.1):
                heart.execute("SELECT 1")

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with psycopg.connect(dsn(place, name), autocommit=True) as still:
            look_for(pulse, conn, 3 * SILENT_S)
            assert is_there(still)
    finally:
        over.set()
        beating.join()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (process_name("backup_service", UUID(int=1)), "secryn_restore"),
        (process_name("restore_service", UUID(int=2)), "secryn_backup"),
        ("restore_service", "secryn_restore"),
        ("psql", "secryn_restore"),
    ],
    ids=["another service", "another role", "no process", "a person"],
)
def test_sessions_that_are_no_replicas_are_left_alone(
    place: PlaceDatabase, watching: tuple[Pulse, Connection], name: str, role: str
) -> None:
    pulse, conn = watching
    with psycopg.connect(dsn(place, name, role), autocommit=True) as other:
        look_for(pulse, conn, 2 * SILENT_S)
        assert is_there(other)


def test_two_replicas_that_go_on_leave_each_other_alone(place: PlaceDatabase) -> None:
    stop = threading.Event()
    names = [process_name("restore_service") for _ in range(2)]
    pulses = [Pulse(dsn(place, name), name, SILENT_S / 6, SILENT_S) for name in names]
    threads = [threading.Thread(target=pulse.run, args=(stop,)) for pulse in pulses]
    with psycopg.connect(dsn(place, names[0]), autocommit=True) as held:
        for thread in threads:
            thread.start()
        assert not stop.wait(5 * SILENT_S)
        assert is_there(held)
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
