"""Recent Operations on a real PostgreSQL: one line an operation, live, the same when made anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.api.operations import wait_for_changes
from backup_service.context import BackupContext
from backup_service.handlers.note_operation import note_operation
from backup_service.handlers.rebuild_history import rebuild_history
from backup_service.operations import ChangesQuery, OperationsQuery
from backup_service.operations.fold import FOLLOWED
from serving.caller import PERMISSIONS
from serving.requester import Requester
from shared.clock import SystemClock
from shared.errors import MessageUnreadable, SignatureInvalid
from shared.eventstore import NewEvent
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer, SigningKey
from shared.messages import between as told
from tests.keeping import append, created, offline_context, running
from tests.plugins.postgres import TestPostgres

ADMIN = Requester("anna", PERMISSIONS, "test", "corr-1")

Json = dict[str, Any]


@pytest.fixture
def context(postgres: TestPostgres, tmp_path: Path) -> Iterator[BackupContext]:
    made = offline_context(postgres.fresh_place().dsn("secryn_backup"), tmp_path, SystemClock())
    yield made
    made.pool.close()


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    key = SigningKey.create(tmp_path_factory.mktemp("restorer") / "key")
    return Issuer("restore_service", key.public, frozenset({ANNOUNCE}))


def listed(context: BackupContext, **asked: Any) -> list[Json]:
    with context.pool.connection() as conn:
        found = context.operations.page(conn, OperationsQuery.model_validate(asked))
    operations: list[Json] = found["operations"]
    return operations


def changed(context: BackupContext, after: int, **asked: Any) -> Json:
    with context.pool.connection() as conn:
        return context.operations.changes(conn, ChangesQuery(after=after, **asked))


def event(kind: str, subject: str, second: int = 0, **facts: Any) -> CloudEvent:
    return CloudEvent(
        type=kind,
        source="/secryn/restore_service",
        data=json.dumps(facts).encode(),
        subject=subject,
        time=datetime(2026, 11, 24, 12, 0, second, tzinfo=UTC),
        extensions={"actor": "berta", "correlationid": "corr-9"},
    )


def test_a_backup_is_one_operation_from_its_request_to_its_end(context: BackupContext) -> None:
    backup_id = running(context)
    (operation,) = listed(context)
    assert (operation["kind"], operation["outcome"]) == ("backup", "running")
    assert (operation["subject"], operation["actor"]) == (backup_id, "tester")
    assert operation["ended_at"] is None
    fault = {"code": "storage.no_space", "message": "full", "hint": None}
    append(context, backup_id, NewEvent(ev.FAILED, {"error": fault}))
    (operation,) = listed(context)
    assert (operation["outcome"], operation["code"]) == ("failed", "storage.no_space")
    assert operation["duration_s"] >= 0
    assert operation["where_to_look"] == f"secryn backup show {backup_id}"


def test_key_views_and_verifications_are_operations_of_their_own(context: BackupContext) -> None:
    backup_id = created(context)
    rot = {"intact": False, "code": "archive.altered", "message": "altered"}
    append(
        context, backup_id,
        NewEvent(ev.KEY_VIEWED, {}), NewEvent(ev.VERIFIED, {"outcome": rot}),
    )  # fmt: skip
    found = {one["kind"]: one for one in listed(context, subject=backup_id)}
    assert set(found) == {"backup", "key_view", "verification"}
    assert (found["verification"]["outcome"], found["verification"]["code"]) == (
        "failed", "archive.altered",
    )  # fmt: skip
    assert listed(context, kind=["key_view"], outcome=["succeeded"])[0]["subject"] == backup_id
    assert listed(context, actor="nobody") == []


def test_what_a_restore_tells_is_one_operation_however_often_it_is_told(
    context: BackupContext, restorer: Issuer
) -> None:
    undone = str(uuid4())
    first = event(told.RESTORE_REQUESTED, "restore-1", 1, reason="lost", undo_of=None)
    story = [
        first,
        event(told.RESTORE_REQUESTED, "restore-2", 2, reason="back", undo_of=undone),
        event(told.RESTORE_CHECKED, "restore-1", 3, checks={"backup_id": "b"}),
        event(told.RESTORE_COMPLETED, "restore-1", 7, epoch=2, voided={"events": ["long"] * 99}),
        event(told.RESTORE_ABORTED, "restore-2", 9, error={"code": "archive.damaged"}),
        event(told.REHEARSAL_REQUESTED, "rehearsal-3", 10, reason="a drill"),
        event(told.APPROVAL_POLICY_CHANGED, "approval", 11, required=True),
    ]
    for one in story:
        note_operation(context, one, restorer)
    before = listed(context)
    for one in story:
        note_operation(context, one, restorer)
    assert listed(context) == before
    found = {one["subject"]: one for one in before}
    assert [one["subject"] for one in before] == ["approval", "3", "2", "1"]
    assert (found["1"]["kind"], found["1"]["outcome"]) == ("restore", "succeeded")
    assert (found["1"]["duration_s"], found["1"]["reason"]) == (6.0, "lost")
    assert found["1"]["details"] == {"backup_id": "b", "epoch": 2}
    assert (found["2"]["kind"], found["2"]["code"]) == ("undo", "archive.damaged")
    assert (found["3"]["kind"], found["3"]["outcome"]) == ("rehearsal", "requested")
    assert (found["approval"]["kind"], found["approval"]["actor"]) == ("configuration", "berta")
    assert found["1"]["correlation_id"] == "corr-9"


def test_only_a_service_that_may_announce_is_believed(
    context: BackupContext, restorer: Issuer
) -> None:
    stranger = Issuer("ci", restorer.public_key, frozenset({"create"}))
    asked = event(told.RESTORE_REQUESTED, "restore-1", reason="lost")
    with pytest.raises(SignatureInvalid):
        note_operation(context, asked, stranger)
    unreadable = CloudEvent(told.RESTORE_REQUESTED, "/x", b"[1]", subject="restore-1")
    with pytest.raises(MessageUnreadable):
        note_operation(context, unreadable, restorer)
    assert listed(context) == []


def test_every_event_that_is_followed_gives_a_line(
    context: BackupContext, restorer: Issuer
) -> None:
    for number, kind in enumerate(FOLLOWED):
        subject = "rehearsal" if "rehears" in kind else "restore"
        facts: Json = {"backup_id": None, "rehearsal_id": str(uuid4()), "error": {"code": "failed"}}
        note_operation(context, event(kind, f"{subject}-{number}", **facts), restorer)
    assert len(listed(context)) == len(FOLLOWED)


def test_the_list_is_the_same_when_it_is_made_anew(
    context: BackupContext, restorer: Issuer
) -> None:
    for _ in range(5):
        backup_id = created(context)
        append(context, backup_id, NewEvent(ev.KEY_VIEWED, {}))
        note_operation(context, event(told.RESTORE_REQUESTED, f"restore-{uuid4()}"), restorer)
    before = listed(context, limit=1000)
    rebuild_history(context, ADMIN)
    assert listed(context, limit=1000) == before
    added = running(context)
    assert added in {one["subject"] for one in listed(context)}


def test_pages_hold_every_operation_once(context: BackupContext) -> None:
    for _ in range(12):
        created(context)
    whole = [one["operation_id"] for one in listed(context, limit=1000)]
    found: list[str] = []
    cursor = None
    while True:
        with context.pool.connection() as conn:
            page = context.operations.page(conn, OperationsQuery(limit=5, cursor=cursor))
        found += [one["operation_id"] for one in page["operations"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == whole
    assert len(whole) == 12


def test_whoever_follows_is_told_of_each_change_at_once_and_misses_none(
    context: BackupContext,
) -> None:
    with context.pool.connection() as conn:
        position = context.operations.page(conn, OperationsQuery())["position"]
    query = ChangesQuery(after=position, wait_s=20)
    with ThreadPoolExecutor(8) as threads:
        waiting = threads.submit(wait_for_changes, context, query, 20)
        made = [threads.submit(created, context) for _ in range(20)]
        assert waiting.result(20)["operations"]
        backups = {one.result(20) for one in made}
    seen: dict[str, str] = {}
    while (found := changed(context, position, limit=7))["operations"]:
        assert found["position"] > position
        position = found["position"]
        seen |= {one["subject"]: one["outcome"] for one in found["operations"]}
    assert seen == dict.fromkeys(backups, "succeeded")
    assert changed(context, position) == {"operations": [], "position": position}
