"""Who is another person, how long something waits, and what a dead process leaves of it."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from restore_service import events as ev
from restore_service.approval import read_policy
from restore_service.commands import Approve, ChangeApproval
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.change_policy import change_policy, show_policy
from restore_service.handlers.finish import give_up
from restore_service.handlers.recover import recover_restores
from restore_service.handlers.run_accepted import run_accepted
from restore_service.uploads import Hashes, Piece, receive
from serving.caller import OPERATOR, PERMISSIONS
from serving.requester import Requester
from shared.errors import (
    AccessError,
    ApprovalExpired,
    Interrupted,
    OwnRequest,
    PolicyChangeNotFound,
    RestoreNotFound,
    TooFewApprovers,
)
from shared.eventstore import NewEvent
from shared.instance.events import RestoreAborted, RestoreStarted, decode
from shared.messages import Issuer, IssuerRegistry, SigningKey
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS
from tests.plugins.postgres import TestPostgres
from tests.restoring import META, Restoring

ONE, ANOTHER = (SigningKey(bytes([n]) * 32).public for n in (1, 2))
MAY_APPROVE = frozenset({"approve", "configure"})
LOCAL = Requester(OPERATOR, PERMISSIONS, "http:test", "corr")
ALICE = Requester("issuer:alice", MAY_APPROVE, "kafka:test", "corr")


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path)
    yield made
    made.context.pool.close()


def with_issuers(context: RestoreContext, *issuers: Issuer) -> RestoreContext:
    return replace(context, issuers=IssuerRegistry({issuer.id: issuer for issuer in issuers}))


def with_alice(context: RestoreContext) -> RestoreContext:
    operator = Issuer(OPERATOR, ONE, PERMISSIONS)
    return with_issuers(context, operator, Issuer("alice", ANOTHER, MAY_APPROVE))


def change(required: bool) -> ChangeApproval:
    return ChangeApproval(command_id=uuid4(), required=required, reason="a test")


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def waiting(restoring: Restoring, expires_at: str, **changed: Any) -> str:
    """Store a request of the operator that waits for its approval."""
    restore_id = str(uuid4())
    data = {
        "restore_id": restore_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
        "upload_id": None, "runner": None, "expires_at": expires_at,
    } | changed  # fmt: skip
    restoring.append(restore_id, NewEvent(ev.REQUESTED, data, RESTORE_EVENTS))
    return restore_id


@pytest.mark.parametrize(
    "issuers",
    [
        [],
        [Issuer(OPERATOR, ONE, MAY_APPROVE)],
        [Issuer(OPERATOR, ONE, MAY_APPROVE), Issuer("alice", ANOTHER, frozenset({"restore"}))],
        # Two names, one key: whoever holds it would approve what they asked for.
        [Issuer(OPERATOR, ONE, MAY_APPROVE), Issuer("alice", ONE, MAY_APPROVE)],
    ],
)
def test_it_takes_two_different_people_to_switch_it_on(
    restoring: Restoring, issuers: list[Issuer]
) -> None:
    context = with_issuers(restoring.context, *issuers)
    with pytest.raises(TooFewApprovers):
        change_policy(context, change(True), LOCAL)
    assert not show_policy(context)["required"]


def test_the_same_command_changes_the_policy_once(restoring: Restoring) -> None:
    context = with_alice(restoring.context)
    on, off = change(True), change(False)
    assert change_policy(context, on, LOCAL)["required"]
    for _ in range(2):
        assert change_policy(context, off, LOCAL)["pending"]["change_id"] == str(off.command_id)
    agreed = Approve(command_id=uuid4(), change_id=off.command_id)
    for command in (agreed, agreed):
        assert not approve(context, command, ALICE)["required"]
    # An old copy of what switched it on does not do so again.
    assert not change_policy(context, on, LOCAL)["required"]
    with pytest.raises(PolicyChangeNotFound):
        approve(context, Approve(command_id=uuid4(), change_id=uuid4()), ALICE)


def test_a_change_that_was_not_approved_in_time_is_over(restoring: Restoring) -> None:
    context = with_alice(restoring.context)
    change_policy(context, change(True), LOCAL)
    hasty = replace(context, settings=_approval_ttl(context, 1))
    off = change(False)
    assert change_policy(hasty, off, LOCAL)["pending"] is not None
    time.sleep(1.1)
    with pytest.raises(ApprovalExpired):
        approve(context, Approve(command_id=uuid4(), change_id=off.command_id), ALICE)
    assert show_policy(context)["pending"] is None
    again = change_policy(context, change(False), ALICE)["pending"]
    assert again["requested_by"] == "issuer:alice"
    with context.transaction("a test") as conn:
        assert read_policy(context, conn).required


def _approval_ttl(context: RestoreContext, ttl_s: int) -> Any:
    restore = context.settings.restore.model_copy(update={"approval_ttl_s": ttl_s})
    return context.settings.model_copy(update={"restore": restore})


def test_who_may_not_approve_does_not_and_what_is_not_there_is_not_found(
    restoring: Restoring,
) -> None:
    restore_id = waiting(restoring, in_s(60))
    context = with_alice(restoring.context)
    stranger = replace(ALICE, name="issuer:bob", permissions=frozenset({"restore", "configure"}))
    command = Approve(command_id=uuid4(), restore_id=UUID(restore_id))
    with pytest.raises(AccessError):
        approve(context, command, stranger)
    with pytest.raises(RestoreNotFound):
        approve(context, Approve(command_id=uuid4(), restore_id=uuid4()), ALICE)
    assert restoring.types(restore_id) == [ev.REQUESTED]


def test_another_name_for_the_key_that_asked_approves_nothing(restoring: Restoring) -> None:
    # `tester` stored the request: it is their key that stands behind both names here.
    restore_id = waiting(restoring, in_s(60))
    both = [Issuer("tester", ONE, MAY_APPROVE), Issuer("alice", ONE, MAY_APPROVE)]
    context = with_issuers(restoring.context, *both)
    with pytest.raises(OwnRequest):
        approve(context, Approve(command_id=uuid4(), restore_id=UUID(restore_id)), ALICE)
    assert restoring.types(restore_id) == [ev.REQUESTED]


def test_what_waits_too_long_ends_approved_or_not_and_the_rest_waits_on(
    restoring: Restoring,
) -> None:
    late, in_time, late_to_start = (waiting(restoring, in_s(s)) for s in (-1, 60, -1))
    approved = {"restore_id": late_to_start, "approved_by": "x", "expires_at": in_s(-1)}
    restoring.append(late_to_start, NewEvent(ev.APPROVED, approved, RESTORE_EVENTS))
    with pytest.raises(ApprovalExpired):
        # The clock decides, not the recovery.
        approve(
            with_alice(restoring.context),
            Approve(command_id=uuid4(), restore_id=UUID(late)),
            ALICE,
        )
    for _ in range(2):
        recover_restores(restoring.another_process(), lambda _: False)
    assert restoring.types(late) == [ev.REQUESTED, ev.EXPIRED]
    assert restoring.types(late_to_start) == [ev.REQUESTED, ev.APPROVED, ev.EXPIRED]
    assert restoring.types(in_time) == [ev.REQUESTED]


def test_the_upload_of_what_waits_is_kept(restoring: Restoring) -> None:
    uploads, folder = restoring.context.uploads, restoring.context.settings.uploads.folder
    kept, old = str(uuid4()), str(uuid4())
    waiting(restoring, in_s(60), upload_id=kept, backup_id=None)
    for upload_id in (kept, old):
        receive(uploads, Hashes(), Piece(upload_id, 0, 7, 7), io.BytesIO(b"archive"), 100)
    yesterday = time.time() - 25 * 3600
    for path in folder.iterdir():
        os.utime(path, (yesterday, yesterday))
    recover_restores(restoring.context, lambda _: False)
    assert {path.name.split(".")[0] for path in folder.iterdir()} == {kept}


def test_a_start_that_was_never_stored_is_not_run(restoring: Restoring) -> None:
    restore_id = waiting(restoring, in_s(60))
    approved = {"restore_id": restore_id, "approved_by": "x", "expires_at": in_s(60)}
    restoring.append(restore_id, NewEvent(ev.APPROVED, approved, RESTORE_EVENTS))
    # The transaction was lost with its connection; the key is in memory already.
    restoring.context.accepted[restore_id] = cast(AcceptedRestore, None)
    run_accepted(restoring.context, restore_id)
    assert restoring.types(restore_id) == [ev.REQUESTED, ev.APPROVED]
    assert not restoring.context.accepted


def test_a_start_whose_process_died_fails_and_both_names_are_on_its_end(
    restoring: Restoring,
) -> None:
    restore_id = waiting(restoring, in_s(60))
    context = with_alice(restoring.context)
    approve(context, Approve(command_id=uuid4(), restore_id=UUID(restore_id)), ALICE)
    started = {"restore_id": restore_id, "started_by": "x", "expires_at": None}
    runner = {"runner": restoring.context.runner}
    restoring.append(restore_id, NewEvent(ev.START_REQUESTED, started | runner, RESTORE_EVENTS))
    recover_restores(restoring.another_process(), lambda _: False)
    with context.transaction("a test") as conn:
        events = context.store.read_stream(conn, ev.stream_of(restore_id))
        audit = context.store.read_stream(conn, "audit")
    assert [e.type for e in events] == [ev.REQUESTED, ev.APPROVED, ev.START_REQUESTED, ev.FAILED]
    both = {"requested_by": "tester", "approved_by": "issuer:alice"}
    assert all(both.items() <= event.data.items() for event in events[1:])
    assert audit[-1].data["unmapped"]["details"] == both


def test_an_abort_on_the_log_names_both_and_one_without_an_approval_nobody(
    restoring: Restoring,
) -> None:
    approved = waiting(restoring, in_s(60))
    context = with_alice(restoring.context)
    approve(context, Approve(command_id=uuid4(), restore_id=UUID(approved)), ALICE)
    started = {"restore_id": approved, "started_by": "x", "expires_at": None}
    runner = {"runner": restoring.context.runner}
    restoring.append(approved, NewEvent(ev.START_REQUESTED, started | runner, RESTORE_EVENTS))
    plain = restoring.requested()
    for restore_id in (approved, plain):
        restoring.fenced(restore_id)
        give_up(context, restore_id, Interrupted("the test gave it up"), META)
    with context.transaction("a test") as conn:
        named, unnamed = (
            [
                e
                for e in context.store.read_stream(conn, ev.stream_of(i))
                if e.topic == INSTANCE_EVENTS
            ]
            for i in (approved, plain)
        )
    both = {"requested_by": "tester", "approved_by": "issuer:alice"}
    assert [event.type for event in named] == [RestoreStarted.TYPE, RestoreAborted.TYPE]
    for event in named:
        read = decode(event.type, json.dumps(event.data).encode())
        assert isinstance(read, RestoreStarted | RestoreAborted)
        assert {"requested_by": read.requested_by, "approved_by": read.approved_by} == both
    # A reader of before these fields reads what nobody had to approve.
    assert all(not both.keys() & event.data.keys() for event in unnamed)
