"""What a restore keeps that no history knows: named, nothing is purged meanwhile, dropped on a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from backup_service.retention.candidates import _undoable
from restore_service import events as ev
from restore_service.commands import DropStray
from restore_service.handlers.drop_stray import count_strays, drop_stray, find_strays
from restore_service.handlers.recover import recover_restores
from restore_service.staging import before_name
from serving.requester import Requester
from shared.errors import StrayNotDropped, StrayNotFound, TargetMismatch
from tests.plugins.live import Live
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring

WHO = Requester("tester", frozenset({"restore"}), "here", "corr-1")


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def left_by_nobody(restoring: Restoring) -> str:
    restore_id = str(uuid4())
    kept = before_name(restore_id)
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {kept}; CREATE TABLE {kept}.projects (id int)".encode())
        conn.execute(f"INSERT INTO {kept}.projects VALUES (1); ANALYZE {kept}.projects".encode())
    return restore_id


def word(restoring: Restoring, **changed: object) -> DropStray:
    named = {"target_instance_id": restoring.context.settings.place.instance_id, "reason": "old"}
    return DropStray.model_validate(named | changed)


def schemas(restoring: Restoring) -> set[str]:
    with psycopg.connect(restoring.place.dsn()) as conn:
        return {row[0] for row in conn.execute("SELECT nspname FROM pg_namespace")}


def test_it_is_named_kept_by_every_recovery_and_dropped_once(restoring: Restoring) -> None:
    restore_id, context = left_by_nobody(restoring), restoring.context
    kept = before_name(restore_id)
    recover_restores(restoring.with_restore_settings(undo_window_s=0), lambda _: False)
    assert kept in schemas(restoring)
    with context.transaction("a test") as conn:
        (found,) = find_strays(context, conn)
        # This is why no backup goes.
        assert restore_id in _undoable(conn)
    assert (found["restore_id"], found["kept_as"]) == (restore_id, kept)
    assert found["size_bytes"] > 0

    other = word(restoring, target_instance_id=uuid4())
    with pytest.raises(TargetMismatch):
        drop_stray(context, restore_id, other, WHO)
    assert kept in schemas(restoring)

    dropped = drop_stray(context, restore_id, word(restoring), WHO)
    assert dropped == found
    assert kept not in schemas(restoring)
    assert count_strays(context) == 0
    with context.transaction("a test") as conn:
        assert _undoable(conn) == set()
        told = context.store.read_stream(conn, f"stray-{restore_id}")
    assert [event.type for event in told] == [ev.STRAY_DROPPED]
    assert (told[0].data["reason"], told[0].actor) == ("old", "tester")
    # Whoever asks again, the answer lost: the same, and nothing is told twice.
    assert drop_stray(restoring.another_process(), restore_id, word(restoring), WHO) == found
    with context.transaction("a test") as conn:
        assert len(context.store.read_stream(conn, f"stray-{restore_id}")) == 1


def test_what_a_restore_of_the_history_keeps_is_none(restoring: Restoring) -> None:
    restore_id, context = restoring.requested(), restoring.context
    kept = before_name(restore_id)
    with psycopg.connect(restoring.place.dsn("secryn_projector"), autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {kept}; CREATE TABLE {kept}.projects (id int)".encode())
    assert count_strays(context) == 0
    with pytest.raises(StrayNotFound):
        drop_stray(context, restore_id, word(restoring), WHO)
    with pytest.raises(StrayNotFound):
        drop_stray(context, str(uuid4()), word(restoring), WHO)
    assert kept in schemas(restoring)


def test_one_that_something_hangs_on_stays_and_nothing_is_said(restoring: Restoring) -> None:
    restore_id, context = left_by_nobody(restoring), restoring.context
    kept = before_name(restore_id)
    with psycopg.connect(restoring.place.dsn(), autocommit=True) as conn:
        conn.execute(f"CREATE VIEW public.hangs AS SELECT * FROM {kept}.projects".encode())
        with pytest.raises(StrayNotDropped):
            drop_stray(context, restore_id, word(restoring), WHO)
        with context.transaction("a test") as reading:
            assert not context.store.read_stream(reading, f"stray-{restore_id}")
        conn.execute("DROP VIEW public.hangs")
    drop_stray(context, restore_id, word(restoring), WHO)
    assert kept not in schemas(restoring)


def test_the_status_names_it_and_the_command_that_drops_it(live: Live) -> None:
    restore_id = str(uuid4())
    kept = before_name(restore_id)
    with live.admin() as conn:
        conn.execute(f"CREATE SCHEMA {kept} AUTHORIZATION secryn_projector".encode())
        conn.execute(f"SET ROLE secryn_projector; CREATE TABLE {kept}.projects (id int)".encode())
    (stray,) = live.stack.status()["stray_states"]
    assert stray["restore_id"] == restore_id
    named = ("restore", "drop-stray", restore_id, "--instance")
    assert live.stack.refusal(*named, str(uuid4()), "--yes")["code"] == TargetMismatch.code
    assert live.stack.secryn(*named, live.instance_id, check=False).returncode
    assert kept in live.schemas()
    live.stack.secryn(*named, live.instance_id, "--yes")
    assert kept not in live.schemas()
    assert live.stack.status()["stray_states"] == []
