"""Two processes of backup_service on one place: what one ends, the other one leaves nothing of."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.create_backup import create_backup
from backup_service.handlers.finish import finish_failed
from backup_service.handlers.request_backup import cancel_backup
from backup_service.handlers.view_key import ViewKey, view_key
from backup_service.handlers.watch_keys import tidy_keys
from backup_service.keys.keks import KekFolder
from serving.requester import Requester
from shared.archive.age import HybridIdentity, open_sealed
from shared.clock import SystemClock
from shared.errors import Cancelled, ConflictError, Interrupted
from shared.eventstore import NewEvent
from tests.keeping import KEY, META, created, offline_context, requested, running
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres

ASKER = Requester("anna", frozenset({"create"}), "test", "corr-1")
VIEWER = Requester("anna", frozenset({"view_key"}), "test", "corr-2", unattended=True)


@pytest.fixture
def context(postgres: TestPostgres, tmp_path: Path) -> Iterator[BackupContext]:
    made = offline_context(postgres.fresh_place().dsn("secryn_backup"), tmp_path, SystemClock())
    yield made
    made.pool.close()


def store_object(context: BackupContext, name: str) -> None:
    writer = context.objects.create(name)
    writer.write(b"x")
    writer.commit()


def fault_of(error: Interrupted | Cancelled) -> dict[str, object]:
    return {"code": error.code, "message": error.message, "hint": error.advice}


def test_a_backup_that_another_process_ended_leaves_nothing_when_it_comes_to_its_end(
    context: BackupContext,
) -> None:
    backup_id = running(context)
    finish_failed(context, backup_id, fault_of(Interrupted("taken for dead")), META)
    # The process that was taken for dead went on until it could not announce what it had made.
    store_object(context, object_name(backup_id))
    store_object(context, receipt_name(backup_id))
    context.objects.create(receipt_name(backup_id))
    finish_failed(context, backup_id, fault_of(Cancelled("not at this version")), META)
    assert not list(context.settings.storage.folder.iterdir())
    with context.pool.connection() as conn:
        assert context.history.load(conn, backup_id).facts["error"]["code"] == Interrupted.code


def test_a_backup_that_was_cancelled_while_its_turn_came_is_not_made(
    context: BackupContext,
) -> None:
    backup_id = requested(context)
    # The worker chose it; then, and before it began:
    cancel_backup(context, backup_id, ASKER)
    create_backup(context, backup_id)
    with context.pool.connection() as conn:
        stream = context.store.read_stream(conn, ev.stream_of(backup_id))
        assert [event.type for event in stream] == [ev.REQUESTED, ev.CANCELLED]
    with pytest.raises(ConflictError, match="has ended: cancelled"):
        cancel_backup(context, backup_id, ASKER)
    assert not list(context.settings.storage.folder.iterdir())


def test_nothing_of_a_created_backup_is_taken_away(context: BackupContext) -> None:
    backup_id = created(context)
    store_object(context, object_name(backup_id))
    finish_failed(context, backup_id, fault_of(Interrupted("too late")), META)
    assert context.objects.stat(object_name(backup_id))


def test_a_key_is_viewed_while_something_else_happens_to_its_backup(context: BackupContext) -> None:
    backup_id = created(context)
    identity = HybridIdentity.generate()
    command = ViewKey(request_id=uuid4(), recipient=identity.to_recipient().encode())
    with ThreadPoolExecutor(1) as thread, context.pool.connection() as conn:
        context.store.lock_appends(conn)
        viewing = thread.submit(view_key, context, backup_id, command, VIEWER)
        eventually(lambda: _waits(conn), "the viewing waits for the append lock")
        version = context.store.version(conn, ev.stream_of(backup_id))
        verified = NewEvent(ev.VERIFIED, {"outcome": {"intact": True}})
        context.history.append(conn, backup_id, version, [verified], META)
        conn.commit()
        answer = viewing.result(20)
    sealed = bytes.fromhex(answer["sealed_key"])
    assert open_sealed(sealed, [identity], 65536).decode() == KEY


def _waits(conn: psycopg.Connection[tuple[int]]) -> bool:
    found = conn.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return found.fetchone() is not None


def test_a_key_that_cannot_be_destroyed_at_once_is_given_and_destroyed_later(
    context: BackupContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id, other = created(context), created(context)
    identity = HybridIdentity.generate()
    recipient = identity.to_recipient().encode()

    def full(_: KekFolder, backup: UUID) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(KekFolder, "destroy", full)
        for one in (backup_id, other):
            command = ViewKey(request_id=uuid4(), recipient=recipient)
            answer = view_key(context, one, command, VIEWER)
            sealed = bytes.fromhex(answer["sealed_key"])
            assert open_sealed(sealed, [identity], 65536).decode() == KEY
    stubborn = context.settings.keys.folder / f"{backup_id}.kek"
    stubborn.unlink()
    stubborn.mkdir()
    tidy_keys(context)
    assert [path.name for path in context.settings.keys.folder.iterdir()] == [stubborn.name]
