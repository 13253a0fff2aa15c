"""Users of the instance as the second person: who of them counts, and how they approve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from restore_service import events as ev
from restore_service.approval import approvers, check_another
from restore_service.commands import Approve, ChangeApproval
from restore_service.context import RestoreContext
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.change_policy import change_policy, show_policy
from serving.access.settings import OidcSettings
from serving.caller import OPERATOR, PERMISSIONS
from serving.requester import Requester
from shared.errors import OwnRequest, TooFewApprovers
from shared.eventstore import EventMeta, NewEvent
from shared.messages import Issuer, IssuerRegistry, SigningKey
from shared.messages.topics import RESTORE_EVENTS
from tests.accessing import Doors
from tests.callers import House
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring

LOCAL = Requester(OPERATOR, PERMISSIONS, "http:test", "corr")
ANNA = Requester("user:anna", frozenset({"approve", "configure", "restore"}), "http:test", "corr")
KEY = SigningKey(bytes(32)).public
PROVIDER = OidcSettings(
    issuer="https://id.example.org",
    client_id="secryn",
    redirect_url="https://backup.example.org/api/v1/session/oidc/callback",
)


@pytest.fixture
def doors(postgres: TestPostgres, tmp_path: Path) -> Iterator[Doors]:
    made = Doors.create(postgres, tmp_path)
    yield made
    made.access.pool.close()


def change(required: bool) -> ChangeApproval:
    return ChangeApproval(command_id=uuid4(), required=required, reason="a test")


def found(context: RestoreContext, besides: str | None = None) -> list[str]:
    with context.transaction("a test") as conn:
        return approvers(context, conn, besides=besides)


def waiting(restoring: Restoring, requested_by: str) -> str:
    """Store a request that waits for another person than ``requested_by``."""
    restore_id = str(uuid4())
    data = {
        "restore_id": restore_id, "command_id": str(uuid4()), "backup_id": str(uuid4()),
        "upload_id": None, "runner": None,
        "target_instance_id": str(uuid4()), "key_fingerprint": None, "reason": "a test",
        "expires_at": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
    }  # fmt: skip
    event = NewEvent(ev.REQUESTED, data, RESTORE_EVENTS)
    with restoring.context.transaction("a test") as conn:
        meta = EventMeta(requested_by, "corr")
        restoring.context.history.append(conn, restore_id, 0, [event], meta)
    return restore_id


@pytest.mark.parametrize(
    "but",
    [
        "UPDATE instance.users SET enabled = false",
        # Without a password there is no way in.
        "UPDATE instance.users SET password_hash = NULL",
        "UPDATE instance.users SET password_hash = 'none that opens'",
        "UPDATE instance.role_bindings SET scope_kind = 'project', scope_id = role_id",
        "UPDATE instance.role_permissions SET permission = 'approve' "
        "WHERE permission = 'backup.approve'",
        "DELETE FROM instance.role_bindings",
    ],
)
def test_who_cannot_sign_in_or_may_not_approve_is_no_second_person(doors: Doors, but: str) -> None:
    context = doors.restoring.context
    doors.add_user("ben", "backup.restore", "backup.configure")
    doors.add_user("anna", "backup.approve")
    assert found(context) == ["operator", "user:anna"]
    doors.execute(but)
    assert found(context) == ["operator"]
    with pytest.raises(TooFewApprovers):
        change_policy(context, change(True), LOCAL)
    assert not show_policy(context)["required"]


def test_a_user_who_may_approve_is_the_second_person(doors: Doors) -> None:
    context = doors.restoring.context
    doors.add_user("anna", "backup.approve", "backup.configure")
    on = change_policy(context, change(True), LOCAL)
    assert (on["required"], on["approvers"]) == (True, ["operator", "user:anna"])
    off = change(False)
    assert change_policy(context, off, ANNA)["pending"]["requested_by"] == "user:anna"
    agreed = Approve(command_id=uuid4(), change_id=off.command_id)
    with pytest.raises(OwnRequest):
        approve(context, agreed, ANNA)
    assert approve(context, agreed, LOCAL)["approved_by"] == OPERATOR
    # What was two persons is one when she has left: the policy stays, and nobody goes without.
    change_policy(context, change(True), LOCAL)
    doors.execute("UPDATE instance.users SET enabled = false")
    with pytest.raises(TooFewApprovers):
        change_policy(context, change(False), LOCAL)
    assert show_policy(context)["required"]


def test_whom_a_provider_lets_in_needs_no_password_here(doors: Doors) -> None:
    context = doors.restoring.context
    doors.add_user("anna", "backup.approve", password=None)
    assert found(context) == ["operator"]
    access = context.settings.access.model_copy(update={"oidc": PROVIDER})
    provided = replace(context, settings=context.settings.model_copy(update={"access": access}))
    assert found(provided) == ["operator", "user:anna"]


def test_a_user_an_issuer_and_the_operator_of_one_name_are_one_person(doors: Doors) -> None:
    issuers = IssuerRegistry({"anna": Issuer("anna", KEY, frozenset({"approve"}))})
    context = replace(doors.restoring.context, issuers=issuers)
    doors.add_user("anna", "backup.approve")
    doors.add_user(OPERATOR, "backup.approve")
    assert found(context) == ["operator", "anna"]
    assert found(context, besides="user:anna") == found(context, besides="issuer:anna")
    assert found(context, besides="user:anna") == ["operator"]
    with context.transaction("a test") as conn, pytest.raises(OwnRequest):
        check_another(context, conn, ANNA, "issuer:anna")


def test_who_asks_with_a_token_is_who_made_it_for_the_list_too(doors: Doors) -> None:
    doors.add_user("anna", "backup.approve", "backup.configure", "backup.restore")
    doors.add_user("ben", "backup.approve")
    browser, csrf = doors.signed_in("anna")
    body = {"name": "hers", "permissions": ["restore"], "expires_in_s": 3600}
    assert browser.post("/api/v1/tokens", headers=csrf, json=body).status_code == 201
    assert found(doors.restoring.context, besides="token:hers") == ["operator", "user:ben"]


@pytest.mark.parametrize(
    "path", ["/admin/restore/restores/{}/approve", "/api/v1/restores/{}/approve"]
)
def test_a_session_approves_what_another_asked_for_and_never_its_own(
    postgres: TestPostgres, tmp_path: Path, path: str
) -> None:
    house = House.create(postgres, tmp_path / "house")
    client = house.apps["restore"].test_client(use_cookies=False)

    def sent(restore_id: str, who: str) -> int:
        headers, command_id = house.session(who), str(uuid4())
        page = path.startswith("/admin")
        body = (
            {"data": {"command_id": command_id}} if page else {"json": {"command_id": command_id}}
        )
        return client.post(path.format(restore_id), headers=headers, **body).status_code

    def approved_by(restore_id: str) -> str | None:
        with house.restoring.context.transaction("a test") as conn:
            shown = house.restoring.context.history.get(conn, restore_id)
        approver: str | None = shown["approved_by"]
        return approver

    with house.stack:
        own = waiting(house.restoring, "user:approve")
        assert sent(own, "approve") == OwnRequest.http_status
        assert sent(own, "restore") == 403
        assert approved_by(own) is None
        assert sent(own, "everything") in {200, 303}
        assert approved_by(own) == "user:everything"
