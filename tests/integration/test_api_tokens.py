"""API tokens: shown once, never more than their maker, of the place and not of the data."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from restore_service.approval import check_another
from serving.requester import Requester
from shared.errors import OwnRequest
from tests.accessing import Doors
from tests.plugins.postgres import TestPostgres

OPERATOR = {"Authorization": "Bearer token"}


@pytest.fixture(scope="module")
def doors(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors.create(postgres, tmp_path_factory.mktemp("doors"))


def asked(**more: object) -> dict[str, object]:
    return {"name": f"t-{uuid4().hex[:8]}", "permissions": ["create"], "expires_in_s": 3600} | more


def made(doors: Doors, **more: object) -> tuple[str, dict[str, str]]:
    """Make a token as the operator; return its name and the header that it is sent with."""
    body = asked(**more)
    answer = doors.browser().post("/api/v1/tokens", headers=OPERATOR, json=body)
    assert answer.status_code == 201, answer.get_json()
    return str(body["name"]), {"Authorization": f"Bearer {answer.get_json()['token']}"}


def listed(doors: Doors, name: str) -> dict[str, object]:
    answer = doors.browser().get("/api/v1/tokens", headers=OPERATOR)
    return next(t for t in answer.get_json()["tokens"] if t["name"] == name)


def test_a_token_may_what_it_was_given_until_it_expires(doors: Doors) -> None:
    name, header = made(doors)
    assert doors.browser().post("/created", headers=header).status_code == 200
    assert doors.browser().get("/metrics", headers=header).status_code == 403
    shown = doors.browser().get("/api/v1/session", headers=header).get_json()
    assert shown == {"name": f"token:{name}", "permissions": ["create"]}
    doors.clock.pass_(seconds=3600)
    over = doors.browser().get("/created", headers=header)
    assert (over.status_code, over.get_json()["code"]) == (401, "access.unauthenticated")
    assert "expired" in over.get_json()["detail"]
    assert listed(doors, name)["state"] == "expired"


def test_a_token_is_shown_once_and_stored_as_a_digest(doors: Doors) -> None:
    name, header = made(doors)
    secret = header["Authorization"].rpartition(".")[2]
    assert secret not in json.dumps(listed(doors, name))
    for table in ("access.tokens", "restore.events"):
        assert not [r for r in doors.rows(f"SELECT t::text FROM {table} t") if secret in r[0]]
    again = doors.browser().post("/api/v1/tokens", headers=OPERATOR, json=asked(name=name))
    assert (again.status_code, again.get_json()["code"]) == (409, "token.exists")


def test_a_part_of_a_token_opens_nothing_and_learns_nothing(doors: Doors) -> None:
    name, header = made(doors)
    doors.browser().post(f"/api/v1/tokens/{name}/revoke", headers=OPERATOR)
    token = header["Authorization"].removeprefix("Bearer ")
    whole = doors.browser().get("/created", headers=header).get_json()
    assert "revoked" in whole["detail"]
    for wrong in (token[:-1], token + "x", token.rpartition(".")[0], "secryn-token.x.y"):
        answer = doors.browser().get("/created", headers={"Authorization": f"Bearer {wrong}"})
        assert "revoked" not in answer.get_json()["detail"]
        assert answer.status_code == 401


def test_a_revoked_token_is_over_at_once_and_for_good(doors: Doors) -> None:
    name, header = made(doors)
    first = doors.browser().post(f"/api/v1/tokens/{name}/revoke", headers=OPERATOR).get_json()
    assert doors.browser().get("/created", headers=header).status_code == 401
    doors.clock.pass_(minutes=1)
    second = doors.browser().post(f"/api/v1/tokens/{name}/revoke", headers=OPERATOR).get_json()
    assert (first["state"], second["revoked_at"]) == ("revoked", first["revoked_at"])
    unknown = doors.browser().post("/api/v1/tokens/nobody/revoke", headers=OPERATOR)
    assert unknown.get_json()["code"] == "token.not_found"


def test_nobody_gives_a_token_more_than_its_own_rights(doors: Doors) -> None:
    name = f"user {uuid4().hex[:8]}"
    doors.add_user(name, "backup.configure", "backup.create")
    browser, csrf = doors.signed_in(name)
    more = browser.post("/api/v1/tokens", headers=csrf, json=asked(permissions=["restore"]))
    assert more.get_json()["code"] == "access.denied"
    mine = browser.post("/api/v1/tokens", headers=csrf, json=asked(permissions=["create"]))
    assert mine.status_code == 201
    # A restore, a role, a password: none of it touches what belongs to the place.
    doors.execute("UPDATE instance.log_position SET epoch = epoch + 1")
    doors.execute("UPDATE instance.users SET enabled = false WHERE username = %s", name)
    header = {"Authorization": f"Bearer {mine.get_json()['token']}"}
    assert doors.browser().post("/created", headers=header).status_code == 200


def test_a_token_makes_no_tokens_and_nor_does_who_has_not_proved_it_lately(doors: Doors) -> None:
    _, header = made(doors, permissions=["configure"], unattended=True)
    refused = doors.browser().post(
        "/api/v1/tokens", headers=header, json=asked(permissions=["configure"])
    )
    assert refused.get_json()["code"] == "access.denied"
    name = f"user {uuid4().hex[:8]}"
    doors.add_user(name, "backup.configure", "backup.create")
    browser, csrf = doors.signed_in(name)
    doors.clock.pass_(seconds=301)
    late = browser.post("/api/v1/tokens", headers=csrf, json=asked())
    assert late.get_json()["code"] == "access.proof_needed"


def test_the_last_use_is_written_at_most_once_a_minute(doors: Doors) -> None:
    name, header = made(doors)
    assert listed(doors, name)["last_used_at"] is None
    for _ in range(3):
        doors.browser().get("/created", headers=header)
    first = listed(doors, name)["last_used_at"]
    doors.clock.pass_(seconds=59)
    doors.browser().get("/created", headers=header)
    assert listed(doors, name)["last_used_at"] == first
    doors.clock.pass_(seconds=1)
    doors.browser().get("/created", headers=header)
    assert listed(doors, name)["last_used_at"] == doors.clock.now().isoformat()


def test_making_and_revoking_are_events_and_audited(doors: Doors) -> None:
    name, _ = made(doors)
    doors.browser().post(f"/api/v1/tokens/{name}/revoke", headers=OPERATOR)
    token_id = str(listed(doors, name)["token_id"])
    events = doors.rows(
        "SELECT type, topic, data->>'name' FROM restore.events WHERE stream = %s ORDER BY version",
        f"token-{token_id}",
    )
    assert events == [
        ("com.secryn.access.token_created.v1", "backup.events", name),
        ("com.secryn.access.token_revoked.v1", "backup.events", name),
    ]
    for action in ("token.create", "token.revoke"):
        assert [e for e in doors.audited(action) if e["resources"][0]["uid"] == name]


def test_nobody_approves_what_they_asked_for_with_a_token_of_theirs(doors: Doors) -> None:
    name = f"user {uuid4().hex[:8]}"
    doors.add_user(name, "backup.configure", "backup.restore", "backup.approve")
    browser, csrf = doors.signed_in(name)
    body = asked(permissions=["restore"])
    assert browser.post("/api/v1/tokens", headers=csrf, json=body).status_code == 201
    token, context = f"token:{body['name']}", doors.restoring.context
    anna, ben = (
        Requester(f"user:{who}", frozenset({"approve"}), "test", "corr-1") for who in (name, "ben")
    )
    with doors.access.transaction("a test") as conn:
        for asked_by in (token, f"user:{name}"):
            check_another(context, conn, ben, asked_by)
            with pytest.raises(OwnRequest):
                check_another(context, conn, anna, asked_by)
        operators, _ = made(doors)
        operator = Requester("operator", frozenset({"approve"}), "test", "corr-1")
        with pytest.raises(OwnRequest):
            check_another(context, conn, operator, f"token:{operators}")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"name": "a b"}, {"name": "a" * 65}, {"permissions": []},
        {"permissions": ["approve"]}, {"permissions": ["everything"]}, {"expires_in_s": 59},
        {"expires_in_s": 366 * 86_400 + 1}, {"expires_in_s": "soon"}, {"more": 1},
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused_by_the_field(doors: Doors, wrong: dict[str, object]) -> None:
    answer = doors.browser().post("/api/v1/tokens", headers=OPERATOR, json=asked(**wrong))
    assert (answer.status_code, answer.get_json()["code"]) == (400, "usage.invalid")
    assert next(iter(wrong)) in answer.get_json()["detail"]
