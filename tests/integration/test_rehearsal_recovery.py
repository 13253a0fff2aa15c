"""What one process of restore_service finds of the rehearsals of another one, or of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import psycopg
import pytest

from restore_service.context import AcceptedRehearsal, RestoreContext
from restore_service.handlers.end_rehearsal import end_rehearsal, recover_rehearsals
from restore_service.handlers.recover import recover_restores
from restore_service.handlers.rehearse import run_rehearsal
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.history import RehearsalHistory
from restore_service.rehearsal.scratch import scratch_schema
from restore_service.staging import rehearsal_name
from shared.errors import Interrupted, RestoreFailedError
from shared.eventstore import NewEvent
from shared.messages.topics import RESTORE_EVENTS
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def requested(context: RestoreContext) -> str:
    """Store a request of the process that ``context`` is of; return the rehearsal's id."""
    rehearsal_id = str(uuid4())
    data = {
        "rehearsal_id": rehearsal_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
        "upload_id": None, "reason": "a test", "runner": context.runner,
    }  # fmt: skip
    with context.transaction("a test") as conn:
        event = NewEvent(ev.REQUESTED, data, RESTORE_EVENTS)
        context.rehearsals.append(conn, rehearsal_id, 0, [event], META)
    return rehearsal_id


def types(context: RestoreContext, rehearsal_id: str) -> list[str]:
    with context.transaction("a test") as conn:
        stream = context.store.read_stream(conn, ev.stream_of(rehearsal_id))
        return [event.type for event in stream]


def make_schemas(restoring: Restoring, *names: str) -> None:
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        for name in names:
            conn.execute(f"CREATE SCHEMA {name}; CREATE TABLE {name}.kept (id int)".encode())


def schemas(restoring: Restoring) -> set[str]:
    with psycopg.connect(restoring.place.dsn()) as conn:
        rows = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'instance%'")
        return {row[0] for row in rows}


def test_what_nobody_runs_is_ended_and_dropped_and_what_somebody_runs_is_not(
    restoring: Restoring,
) -> None:
    context, other = restoring.context, restoring.another_process()
    dead, alive, own = requested(restoring.another_process()), requested(other), requested(context)
    unknown, strange = rehearsal_name(uuid4()), "instance_rehearsal_of_a_person"
    kept = {rehearsal_name(alive), strange}
    make_schemas(restoring, rehearsal_name(dead), rehearsal_name(own), unknown, *kept)
    recover_restores(context, lambda _: False)
    assert unknown in schemas(restoring)

    recover_rehearsals(context, lambda runner: runner == other.runner)

    assert {name for name in schemas(restoring) if "rehearsal" in name} == kept
    assert types(context, dead)[1:] == types(context, own)[1:] == [ev.FAILED]
    assert types(context, alive) == [ev.REQUESTED]
    with context.transaction("a test") as conn:
        assert context.rehearsals.get(conn, dead)["error"]["code"] == Interrupted.code
    recover_rehearsals(context, lambda _: False)
    assert types(context, dead)[1:] == [ev.FAILED]
    assert {name for name in schemas(restoring) if "rehearsal" in name} == {strange}


def test_one_that_was_given_up_for_dead_is_not_run_afterwards(restoring: Restoring) -> None:
    context = restoring.context
    rehearsal_id = requested(context)
    context.to_rehearse[rehearsal_id] = cast(AcceptedRehearsal, None)
    recover_rehearsals(context, lambda _: False)
    assert types(context, rehearsal_id) == [ev.REQUESTED]
    recover_rehearsals(restoring.another_process(), lambda _: False)
    run_rehearsal(context, rehearsal_id)
    end_rehearsal(context, rehearsal_id, RestoreFailedError("late"), META)
    assert types(context, rehearsal_id) == [ev.REQUESTED, ev.FAILED]
    assert not context.to_rehearse


def test_one_whose_request_was_never_stored_is_forgotten(restoring: Restoring) -> None:
    context, never = restoring.context, str(uuid4())
    context.to_rehearse[never] = cast(AcceptedRehearsal, None)
    run_rehearsal(context, never)
    assert not context.to_rehearse


def test_a_schema_that_somebody_looks_into_is_dropped_later(restoring: Restoring) -> None:
    context, rehearsal_id = restoring.context, str(uuid4())
    with psycopg.connect(restoring.place.dsn()) as reader:
        with scratch_schema(context, rehearsal_id) as (conn, schema):
            conn.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.kept (id int)".encode())
            reader.execute(f"SELECT FROM {schema}.kept".encode())
        assert schema in schemas(restoring)
        reader.rollback()
    recover_rehearsals(context, lambda _: False)
    assert schema not in schemas(restoring)


def test_the_read_model_is_what_the_events_tell(restoring: Restoring) -> None:
    context = restoring.context
    rehearsal_id = requested(context)
    end_rehearsal(context, rehearsal_id, RestoreFailedError("a reason"), META)
    with context.transaction("a test") as conn:
        history = RehearsalHistory(context.store)
        assert history.get(conn, rehearsal_id) == history.load(conn, rehearsal_id).as_json()
        assert history.open_ids(conn) == []
        assert context.history.open_ids(conn) == []
