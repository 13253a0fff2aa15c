"""A restore that is given up while another session decides about it: one decision, and none half."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from restore_service import cutover
from restore_service import events as ev
from restore_service.cutover import cut_over
from restore_service.fence import Fence, wait_for_projector
from restore_service.handlers.finish import give_up
from restore_service.staging import before_name, drop_if_possible, owner_connection, staging_name
from restore_service.unseen import Unseen
from shared.database import Connection, postgres_faults
from shared.errors import Interrupted, PostgresUnavailable
from shared.eventstore import NewEvent
from shared.instance.migrate import migrate
from shared.messages.topics import RESTORE_EVENTS
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring

ROWS = 3


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def staged(restoring: Restoring, restore_id: str) -> str:
    """Make the staging schema of a restore, with rows in it."""
    schema = staging_name(restore_id)
    with psycopg.connect(restoring.place.dsn("secryn_projector")) as conn:
        migrate(conn, schema)
        conn.execute(
            f"INSERT INTO {schema}.settings (name, value, updated_at, updated_by) "
            f"SELECT 'restored ' || n, '{{}}', now(), 'a test' FROM generate_series(1, {ROWS}) n"
            .encode()
        )  # fmt: skip
    return schema


def rows(restoring: Restoring, schema: str) -> int:
    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        found = conn.execute(f"SELECT count(*) FROM {schema}.settings".encode()).fetchone()
    assert found is not None
    return int(found[0])


def wait_until_it_waits(restoring: Restoring, thread: threading.Thread) -> None:
    """Return when ``thread`` has ended, or a session of the place waits for a lock."""

    def waits() -> bool:
        with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
            found = conn.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
        return not thread.is_alive() or bool(found and found[0])

    eventually(waits, "the other one waits, or is through")


def test_what_a_cut_over_is_making_the_instance_is_not_dropped_by_who_gives_it_up(
    restoring: Restoring,
) -> None:
    restore_id = restoring.requested()
    restoring.fenced(restore_id)
    schema = staged(restoring, restore_id)
    context = restoring.another_process()
    giving_up = threading.Thread(
        target=give_up, args=(context, restore_id, Interrupted("taken for dead"), META)
    )
    outcome = {"epoch": 2, "fence_offset": 0, "kept_as": before_name(restore_id)}
    data = {"restore_id": restore_id, "outcome": outcome}

    def decide(conn: Connection) -> None:
        version = context.store.version(conn, ev.stream_of(restore_id))
        decided = NewEvent(ev.CUT_OVER, data, RESTORE_EVENTS)
        context.history.append(conn, restore_id, version, [decided], META)

    def begin() -> None:
        giving_up.start()
        wait_until_it_waits(restoring, giving_up)

    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        cut_over(
            conn, live="instance", staging=schema, before=before_name(restore_id),
            lock_timeout_ms=500, wait_s=10, decide=decide, look=lambda: None, renamed=begin,
        )  # fmt: skip
    giving_up.join(30)
    assert not giving_up.is_alive()
    assert restoring.types(restore_id)[-2:] == [ev.CUT_OVER, ev.COMPLETED]
    assert rows(restoring, "instance") == ROWS


def test_a_process_that_stands_still_in_its_cut_over_does_not_keep_the_locks(
    restoring: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutover, "IDLE_MS", 200)
    schema = staged(restoring, str(uuid4()))

    def stand_still() -> None:
        # Whoever reads comes through although nothing was said of an end.
        assert rows(restoring, "instance") == 0

    with (
        pytest.raises(PostgresUnavailable),
        postgres_faults("cutting over"),
        psycopg.connect(restoring.place.dsn(), autocommit=True) as conn,
    ):
        cut_over(
            conn, live="instance", staging=schema, before=before_name(uuid4()),
            lock_timeout_ms=500, wait_s=10, decide=lambda _: None, look=lambda: None,
            renamed=stand_still,
        )  # fmt: skip
    assert rows(restoring, schema) == ROWS


def test_a_schema_that_is_renamed_while_it_is_dropped_keeps_its_tables(
    restoring: Restoring,
) -> None:
    schema = staged(restoring, str(uuid4()))
    gone: list[bool] = []

    def drop() -> None:
        with owner_connection(restoring.place.dsn("secryn_restore")) as conn:
            gone.append(drop_if_possible(conn, schema))

    dropping = threading.Thread(target=drop)
    with psycopg.connect(restoring.place.dsn()) as conn:
        conn.execute(f"ALTER SCHEMA {schema} RENAME TO taken_over".encode())
        dropping.start()
        wait_until_it_waits(restoring, dropping)
        conn.commit()
    dropping.join(30)
    assert gone == [False]
    assert rows(restoring, "taken_over") == ROWS


def test_an_end_and_the_drop_of_the_staging_schema_are_one(restoring: Restoring) -> None:
    restore_id = restoring.requested()
    schema = staged(restoring, restore_id)
    give_up(restoring.context, restore_id, Interrupted("a test"), META)
    assert restoring.types(restore_id)[-1] == ev.FAILED
    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        found = conn.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone()
    assert found == (None,)


NOTHING_UNSEEN = Unseen(open_fence=None, highest_fence_no=0, epoch=1, restores=False)


def test_a_process_that_was_away_raises_no_fence_of_a_restore_that_was_ended_meanwhile(
    restoring: Restoring,
) -> None:
    restore_id = restoring.requested()
    give_up(restoring.another_process(), restore_id, Interrupted("taken for dead"), META)
    fence = Fence(fence_no=1, offset=0, event_id=uuid4(), epoch=2)
    with pytest.raises(Interrupted, match="ended it"):
        wait_for_projector(restoring.context, fence, restore_id, NOTHING_UNSEEN, wait_s=0.1)
    assert not restoring.position().fenced


def test_a_fence_that_another_one_followed_is_not_raised_again(restoring: Restoring) -> None:
    restore_id, other = restoring.requested(), restoring.requested()
    with restoring.context.transaction("a test") as conn:
        restoring.context.history.next_fence_no(conn, restore_id, 0)
    restoring.fenced(other)
    give_up(restoring.another_process(), other, Interrupted("a test"), META)
    restoring.lower_row()
    fence = Fence(fence_no=1, offset=0, event_id=uuid4(), epoch=2)
    with pytest.raises(Interrupted, match="is over"):
        wait_for_projector(restoring.context, fence, restore_id, NOTHING_UNSEEN, wait_s=0.1)
    assert restoring.position().highest_fence_no == 2
