"""Stored objects read back in turn, without their keys; storage and history compared."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.configuration.verification import Verification
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.check_storage import check_storage
from backup_service.handlers.verify_backup import verify_backup
from backup_service.verification import worker
from backup_service.verification.metrics import StoredBackupMetrics
from backup_service.verification.worker import VerificationWorker, verify_next
from serving.caller import PERMISSIONS
from serving.requester import Requester
from shared.archive.age import HybridIdentity, seal
from shared.archive.receipt import write_receipt
from shared.database import Lock, try_lock
from shared.errors import Interrupted, UnavailableError
from shared.eventstore import NewEvent, StoredEvent
from tests.clock import HandClock
from tests.keeping import INSTANCE, append, offline_context, running
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres

ADMIN = Requester("anna", PERMISSIONS, "test", "corr-1")
DAY_S = 86_400
STILL = threading.Event()

Json = dict[str, Any]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def context(postgres: TestPostgres, tmp_path: Path, clock: HandClock) -> Iterator[BackupContext]:
    made = offline_context(postgres.fresh_place().dsn("secryn_backup"), tmp_path, clock)
    yield made
    made.pool.close()


@pytest.fixture
def planned(context: BackupContext, monkeypatch: pytest.MonkeyPatch) -> BackupContext:
    """Every backup is read back each day: as the instance's setting says, which has no log here."""
    plan = Verification(every_s=DAY_S, bytes_per_s=100_000_000)
    monkeypatch.setattr(worker, "present_plan", lambda _context, _conn: plan)
    return context


def stored(context: BackupContext, size_bytes: int = 3000) -> str:
    """Make a backup with a real age object and a signed receipt."""
    backup_id = running(context)
    content = seal(b"x" * size_bytes, [HybridIdentity.generate().to_recipient()])
    put(context, object_name(backup_id), content)
    now = context.clock.now().isoformat()
    facts: Json = {
        "backup_id": backup_id, "instance_id": str(INSTANCE), "environment": "test", "epoch": 1,
        "cluster_id": "c", "topic_id": "t", "offset": 7, "schema_version": 1, "digest": "0" * 64,
        "tables": {}, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        "key_fingerprint": "k", "recipient_fingerprints": ["k"],
        "signer": context.signer.fingerprint, "requested_by": "tester", "reason": "a test",
        "started_at": now, "proven_at": now, "behind": False, "duration_s": 0.1,
    }  # fmt: skip
    write_receipt(context.objects, receipt_name(backup_id), facts, context.signer)
    append(context, backup_id, NewEvent(ev.CREATED, facts))
    return backup_id


def put(context: BackupContext, name: str, content: bytes) -> None:
    writer = context.objects.create(name)
    writer.write(content)
    writer.commit()


def path_of(context: BackupContext, name: str) -> Path:
    return context.settings.storage.folder / name


def events(context: BackupContext, kind: str) -> list[StoredEvent]:
    with context.pool.connection() as conn:
        return [one for one in context.store.read_all(conn, 0, 10_000) if one.type == kind]


def step(context: BackupContext) -> bool:
    with psycopg.connect(context.settings.postgres.dsn, autocommit=True) as conn:
        return verify_next(context, conn, STILL)


def verified(context: BackupContext) -> list[str]:
    return [one.data["backup_id"] for one in events(context, ev.VERIFIED)]


# What is found


def test_whatever_is_not_as_it_was_is_an_event_and_a_metric(context: BackupContext) -> None:
    for damage, code in DAMAGES.items():
        backup_id = stored(context)
        path = path_of(context, object_name(backup_id))
        content = path.read_bytes()
        path.unlink()
        damaged = damage_of(damage, content)
        if damaged is not None:
            path.write_bytes(damaged)
        found = verify_backup(context, backup_id, ADMIN)
        assert (found["intact"], found["code"]) == (False, code), damage
        assert found["receipt"]["intact"]
        assert events(context, ev.DAMAGED)[-1].data["code"] == code
    whole = stored(context)
    assert verify_backup(context, whole, ADMIN)["intact"]
    assert len(events(context, ev.DAMAGED)) == len(DAMAGES)
    assert gauges(context)["secryn_backup_damaged"] == len(DAMAGES)


DAMAGES = {
    "lost": "storage.not_found",
    "a bit": "archive.altered",
    "short": "archive.truncated",
    "longer": "archive.altered",
    "no age file": "archive.not_age",
    "empty": "archive.not_age",
}


def damage_of(kind: str, content: bytes) -> bytes | None:
    middle = len(content) // 2 + 500
    return {
        "lost": None,
        "a bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "short": content[:-1],
        "longer": content + b"\0",
        "no age file": b"x" * len(content),
        "empty": b"",
    }[kind]


def test_a_receipt_that_is_gone_or_says_something_else_is_told(context: BackupContext) -> None:
    backup_id, other = stored(context), stored(context)
    path = path_of(context, receipt_name(backup_id))
    path.write_bytes(path.read_bytes().replace(b'"offset": 7', b'"offset": 8'))
    found = verify_backup(context, backup_id, ADMIN)
    assert found["intact"]
    assert found["receipt"]["code"] == "receipt.invalid"
    path_of(context, receipt_name(other)).unlink()
    assert verify_backup(context, other, ADMIN)["receipt"]["code"] == "storage.not_found"
    assert len(events(context, ev.DAMAGED)) == 2
    assert gauges(context)["secryn_backup_receipts_damaged"] == 2
    assert gauges(context)["secryn_backup_damaged"] == 0
    with context.pool.connection() as conn:
        shown = context.history.get(conn, other)
    assert (shown["intact"], shown["receipt_intact"]) == (True, False)


def test_a_storage_that_does_not_answer_has_told_nothing(
    context: BackupContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup_id = stored(context)

    def away(name: str, start: int = 0) -> None:
        raise UnavailableError("the storage is away")

    monkeypatch.setattr(context.objects, "open", away)
    with pytest.raises(UnavailableError):
        verify_backup(context, backup_id, ADMIN)
    assert events(context, ev.VERIFIED) == []


# In turn


def test_what_was_verified_or_proven_the_longest_ago_comes_first(
    planned: BackupContext, clock: HandClock
) -> None:
    made = []
    for _ in range(3):
        made.append(stored(planned))
        clock.pass_(hours=1)
    check_storage(planned, ADMIN)
    assert not step(planned)
    clock.pass_(days=1)
    verify_backup(planned, made[0], ADMIN)
    assert step(planned)
    assert step(planned)
    assert verified(planned) == [made[0], made[1], made[2]]
    # What is left to do is to look at the storage; then nothing is, for a day.
    assert step(planned)
    assert not step(planned)
    assert len(events(planned, ev.STORAGE_CHECKED)) == 2
    clock.pass_(days=1)
    while step(planned):
        pass
    assert verified(planned)[3:] == [made[0], made[1], made[2]]


def test_one_that_is_damaged_does_not_keep_the_others_from_their_turn(
    planned: BackupContext, clock: HandClock
) -> None:
    broken, whole = stored(planned), stored(planned)
    path_of(planned, object_name(broken)).unlink()
    clock.pass_(days=2)
    assert step(planned)
    assert step(planned)
    assert verified(planned) == [broken, whole]


def test_a_stop_in_the_middle_records_nothing_and_the_next_one_begins_anew(
    planned: BackupContext, clock: HandClock
) -> None:
    backup_id = stored(planned)
    clock.pass_(days=2)
    stop = threading.Event()
    stop.set()
    with (
        psycopg.connect(planned.settings.postgres.dsn, autocommit=True) as conn,
        pytest.raises(Interrupted),
    ):
        verify_next(planned, conn, stop)
    assert verified(planned) == []
    assert step(planned)
    assert verified(planned) == [backup_id]


def test_of_several_replicas_one_verifies(planned: BackupContext, clock: HandClock) -> None:
    made = [stored(planned) for _ in range(6)]
    clock.pass_(days=2)
    stop = threading.Event()
    with psycopg.connect(planned.settings.postgres.dsn, autocommit=True) as conn:
        assert try_lock(conn, Lock.BACKUP_VERIFIER)
        threads = [
            threading.Thread(target=VerificationWorker(planned).run, args=(stop,), daemon=True)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert not stop.wait(0.5)
        assert verified(planned) == []
    try:
        eventually(lambda: len(verified(planned)) >= 6, "all are verified", timeout_s=60)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert sorted(verified(planned)) == sorted(made)


# The storage


def test_what_belongs_to_no_backup_and_what_is_missing_is_named_and_left(
    context: BackupContext,
) -> None:
    whole, lost, bare, failed = (stored(context) for _ in range(4))
    stranger = str(uuid4())
    path_of(context, object_name(lost)).unlink()
    path_of(context, receipt_name(bare)).unlink()
    at_work = running(context)
    put(context, object_name(at_work), b"being written")
    put(context, object_name(stranger), b"x")
    put(context, receipt_name(stranger), b"x")
    put(context, "notes.txt", b"x")
    ended = running(context)
    append(context, ended, NewEvent(ev.FAILED, {"error": {"code": "failed"}}))
    put(context, object_name(ended), b"x")
    before = sorted(path.name for path in context.settings.storage.folder.iterdir())
    report = check_storage(context, ADMIN)
    assert {(found["kind"], found["name"]) for found in report["named"]} == {
        ("backup_without_object", object_name(lost)),
        ("backup_without_receipt", receipt_name(bare)),
        ("object_without_backup", object_name(stranger)),
        ("receipt_without_backup", receipt_name(stranger)),
        ("unknown_object", "notes.txt"),
        ("remains_of_an_ended_backup", object_name(ended)),
    }
    assert not report["clean"]
    assert sorted(path.name for path in context.settings.storage.folder.iterdir()) == before
    assert events(context, ev.STORAGE_CHECKED)[-1].data == report
    assert gauges(context)["secryn_backup_storage_findings"] == 6
    assert whole not in str(report)
    assert failed not in str(report)


def test_a_storage_that_is_as_the_history_says_is_clean(context: BackupContext) -> None:
    for _ in range(3):
        stored(context)
    assert check_storage(context, ADMIN)["clean"]


def gauges(context: BackupContext) -> dict[str, float]:
    return {
        metric.name: sum(sample.value for sample in metric.samples)
        for metric in StoredBackupMetrics(context).collect()
    }
