"""What one process of restore_service finds that another one left, or still does."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import psycopg
import pytest

from restore_service import events as ev
from restore_service.context import AcceptedRestore
from restore_service.handlers.finish import give_up
from restore_service.handlers.recover import recover_restores
from restore_service.handlers.run_accepted import run_accepted
from restore_service.handlers.undo import find_undoable
from restore_service.staging import before_name, leftover_schemas, staging_name
from restore_service.uploads import Hashes, Piece, archive_name, receive
from shared.errors import (
    Interrupted,
    NoSpace,
    NotUndoable,
    PostgresUnavailable,
    RestoreFailedError,
)
from shared.eventstore import NewEvent
from shared.guard import exclusive_guard
from shared.instance.events import RestoreAborted, RestoreStarted
from shared.messages.topics import RESTORE_EVENTS
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def nobody_lives(_: str) -> bool:
    return False


def test_a_restore_that_another_process_ended_has_no_second_end(restoring: Restoring) -> None:
    restore_id = restoring.requested()
    restoring.fenced(restore_id)
    give_up(restoring.another_process(), restore_id, Interrupted("taken for dead"), META)
    give_up(restoring.context, restore_id, RestoreFailedError("it lost its connection"), META)
    assert restoring.types(restore_id) == [
        ev.REQUESTED, RestoreStarted.TYPE, RestoreAborted.TYPE, ev.ABORTED,
    ]  # fmt: skip


def test_a_restore_that_was_given_up_for_dead_is_not_run_afterwards(restoring: Restoring) -> None:
    restore_id = restoring.requested()
    restoring.context.accepted[restore_id] = cast(AcceptedRestore, None)
    # Both lost PostgreSQL; the other one was back first and found nobody who holds the key.
    recover_restores(restoring.another_process(), nobody_lives)
    ended = restoring.types(restore_id)
    run_accepted(restoring.context, restore_id)
    assert restoring.types(restore_id) == ended == [ev.REQUESTED, ev.FAILED]
    assert not restoring.context.accepted


@pytest.mark.parametrize(
    "hold",
    [
        "CREATE VIEW public.outside AS SELECT * FROM {schema}.kept",
        # Of the superuser, and not the service's to drop.
        "ALTER SCHEMA {schema} OWNER TO CURRENT_USER; "
        "ALTER TABLE {schema}.kept OWNER TO CURRENT_USER",
        "BEGIN; LOCK TABLE {schema}.kept",
    ],
)
def test_remains_that_cannot_be_dropped_hold_nothing_up(restoring: Restoring, hold: str) -> None:
    left, also_left = staging_name(uuid4()), staging_name(uuid4())
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        for schema in (left, also_left):
            conn.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.kept (id int)".encode())
    abandoned = restoring.requested()
    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        conn.execute(hold.format(schema=left).encode())
        recover_restores(restoring.another_process(), nobody_lives)
        found = {row[0] for row in conn.execute("SELECT nspname FROM pg_namespace")}
    assert restoring.types(abandoned)[-1] == ev.FAILED
    assert left in found
    assert also_left not in found


def test_an_abort_falls_although_its_staging_schema_cannot_be_dropped(restoring: Restoring) -> None:
    restore_id = restoring.requested()
    number = restoring.fenced(restore_id)
    schema = staging_name(restore_id)
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.kept (id int)".encode())
    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        conn.execute(f"CREATE VIEW public.outside AS SELECT * FROM {schema}.kept".encode())
    give_up(restoring.context, restore_id, RestoreFailedError("no"), META)
    assert restoring.types(restore_id)[-2:] == [RestoreAborted.TYPE, ev.ABORTED]
    assert number == 1


def test_the_fence_of_a_restore_that_was_cut_over_is_the_projectors(restoring: Restoring) -> None:
    restore_id = restoring.requested()
    restoring.fenced(restore_id)
    outcome = {"epoch": 2, "fence_offset": 0, "kept_as": None}
    cut_over = {"restore_id": restore_id, "outcome": outcome}
    restoring.append(restore_id, NewEvent(ev.CUT_OVER, cut_over, RESTORE_EVENTS))
    recover_restores(restoring.another_process(), nobody_lives)
    assert restoring.types(restore_id)[-1] == ev.COMPLETED
    assert restoring.position().fenced
    with restoring.context.transaction("a test") as conn:
        # Where the end is not on the log yet, nobody can say what stands before it.
        assert restoring.context.history.get(conn, restore_id)["voided"] is None
        assert restoring.context.history.page(conn, 1)["restores"][0]["voided"] is None


def test_what_was_replaced_is_kept_for_the_undo_window_then_dropped_and_the_event_says_so(
    restoring: Restoring,
) -> None:
    restore_id = restoring.requested()
    outcome = {"epoch": 2, "fence_offset": 0, "kept_as": before_name(restore_id)}
    done = {"restore_id": restore_id, "duration_s": 1.0, "epoch": 2, "proof": None, "voided": None}
    restoring.append(
        restore_id,
        NewEvent(ev.CUT_OVER, {"restore_id": restore_id, "outcome": outcome}, RESTORE_EVENTS),
        NewEvent(ev.COMPLETED, done, RESTORE_EVENTS),
    )
    kept = before_name(restore_id)
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {kept}; CREATE TABLE {kept}.projects (id int)".encode())
    recover_restores(restoring.context, nobody_lives)
    with restoring.context.transaction("a test") as conn:
        assert find_undoable(restoring.context, conn, None).restore_id == restore_id
        assert leftover_schemas(conn)[1] == [kept]

    over = restoring.with_restore_settings(undo_window_s=0)
    recover_restores(over, nobody_lives)
    recover_restores(over, nobody_lives)

    assert restoring.types(restore_id)[-2:] == [ev.COMPLETED, ev.PREVIOUS_DROPPED]
    with over.transaction("a test") as conn:
        assert leftover_schemas(conn)[1] == []
        assert over.history.load(conn, restore_id).facts["kept_as"] is None
        with pytest.raises(NotUndoable):
            find_undoable(over, conn, None)


def test_uploads_of_yesterday_are_removed_finished_or_broken_off(restoring: Restoring) -> None:
    uploads, folder = restoring.context.uploads, restoring.context.settings.uploads.folder
    for upload_id in ("old", "new"):
        receive(uploads, Hashes(), Piece(upload_id, 0, 7, 7), io.BytesIO(b"archive"), 100)
        # Its process was killed in the middle.
        uploads.create(archive_name(f"broken-{upload_id}"))
    yesterday = time.time() - 25 * 3600
    for path in folder.iterdir():
        if "old" in path.name:
            os.utime(path, (yesterday, yesterday))
    recover_restores(restoring.context, nobody_lives)
    left = {path.name.split("-")[1] if "-" in path.name else path.name for path in folder.iterdir()}
    assert left == {"broken", "new.age", "new.sha256"}
    assert not [path for path in folder.iterdir() if "old" in path.name]


def test_a_guard_whose_session_was_lost_is_a_postgres_that_is_away(restoring: Restoring) -> None:
    with (
        psycopg.connect(restoring.place.dsn(), autocommit=True) as admin,
        pytest.raises(PostgresUnavailable),
        exclusive_guard(restoring.context.settings.postgres.dsn, 1, lambda: None),
    ):
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


def test_an_upload_that_does_not_fit_is_refused_before_its_first_byte(restoring: Restoring) -> None:
    uploads, source = restoring.context.uploads, io.BytesIO(b"archive")
    free = uploads.free_bytes()
    assert free is not None
    with pytest.raises(NoSpace):
        receive(uploads, Hashes(), Piece("large", 0, free, free), source, 1 << 60)
    assert source.tell() == 0
    assert not list(restoring.context.settings.uploads.folder.iterdir())
