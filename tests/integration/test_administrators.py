"""The first administrator and the ones after: users of the instance like any other, whole or not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from serving.access.schema import migrate_access
from serving.caller import PERMISSIONS
from shared.secretfiles import write_secret_file
from tests.backing import Backing
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.serving_api import backup_http, board_of

PASSWORD = "a long enough password"
CREDENTIAL = "the credential of the place"
OPERATOR = {"Authorization": "Bearer token"}
BOOTSTRAP = {"Authorization": f"Bearer {CREDENTIAL}"}
PATH = "/api/v1/administrators"


@dataclass
class Place:
    backing: Backing
    app: Flask

    def post(self, headers: dict[str, str], name: str, **more: Any) -> Any:
        body = {"username": name, "password": PASSWORD} | more
        return self.app.test_client().post(PATH, headers=headers, json=body)

    def users(self) -> list[str]:
        return sorted(r[0] for r in self.backing.rows("SELECT username FROM instance.users"))


@pytest.fixture
def place(postgres: TestPostgres, kafka: TestKafka, tmp_path: Path) -> Iterator[Place]:
    backing = Backing.create(postgres, kafka, tmp_path)
    file = tmp_path / "bootstrap"
    write_secret_file(file, f"{CREDENTIAL}\n{datetime.now(UTC).isoformat()}\n".encode())
    settings = backing.context.settings.model_copy(update={"bootstrap_file": file})
    context = replace(backing.context, settings=settings)
    migrate_access(context.pool, "secryn_access")
    app = backup_http(context, board_of(context))
    with backing.stack, backing.projector():
        yield Place(backing, app)


def test_the_first_administrator_signs_in_and_may_everything(place: Place) -> None:
    made = place.post(BOOTSTRAP, "anna", display_name="Anna", email="anna@example.org")
    assert made.status_code == 201, made.json
    assert PASSWORD not in made.get_data(as_text=True)
    browser = place.app.test_client()
    answer = browser.post("/api/v1/session", json={"username": "anna", "password": PASSWORD})
    assert set(answer.get_json()["permissions"]) == PERMISSIONS
    assert browser.get("/api/v1/backups").status_code == 200
    (row,) = place.backing.rows("SELECT password_hash, email FROM instance.users")
    assert (row[0].startswith("$argon2id$"), row[1]) == (True, "anna@example.org")
    (entry,) = place.backing.audited("administrator.create")
    assert entry["actor"]["user"]["name"] == "bootstrap"
    # The credential died with it, as a token and as what opens a session.
    assert place.post(BOOTSTRAP, "eve").get_json()["code"] == "access.bootstrap_spent"
    opened = browser.post("/api/v1/session/bootstrap", json={"token": CREDENTIAL})
    assert opened.get_json()["code"] == "access.bootstrap_spent"
    assert place.users() == ["anna"]


def test_a_session_of_the_credential_makes_one_administrator_and_is_over(place: Place) -> None:
    browser = place.app.test_client()
    wrong = browser.post("/api/v1/session/bootstrap", json={"token": "wrong"})
    assert wrong.get_json()["code"] == "access.sign_in_refused"
    opened = browser.post("/api/v1/session/bootstrap", json={"token": f" {CREDENTIAL}\n"})
    assert opened.get_json()["permissions"] == ["create_administrator", "read", "restore"]
    headers = {"X-CSRF-Token": opened.get_json()["csrf_token"]}
    body = {"username": "anna", "password": PASSWORD}
    assert browser.post(PATH, headers=headers, json=body).status_code == 201
    over = browser.post(PATH, headers=headers, json=body | {"username": "eve"})
    assert over.get_json()["code"] == "access.session_ended"
    assert place.users() == ["anna"]


def test_the_pages_of_the_first_time_make_the_administrator_who_then_signs_in(place: Place) -> None:
    browser = place.app.test_client()
    assert "/admin/first" in browser.get("/admin/sign-in").get_data(as_text=True)
    wrong = browser.post("/admin/first", data={"token": "wrong"})
    assert (wrong.status_code, "Set-Cookie" in wrong.headers) == (401, False)
    opened = browser.post("/admin/first", data={"token": CREDENTIAL})
    assert opened.headers["Location"] == "/admin/first/administrator"
    page = browser.get(opened.headers["Location"]).get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found
    form = {"csrf_token": found[1], "username": "anna", "password": "short"}
    short = browser.post("/admin/first/administrator", data=form)
    assert (short.status_code, place.users()) == (400, [])
    assert "short" not in short.get_data(as_text=True).replace("shorter", "")
    done = browser.post("/admin/first/administrator", data=form | {"password": PASSWORD})
    assert (done.status_code, done.headers["Location"]) == (303, "/admin/sign-in")
    answer = browser.post("/admin/sign-in", data={"name": "anna", "password": PASSWORD})
    assert answer.status_code == 303
    assert browser.get("/admin/backups").status_code == 200


def test_two_at_once_with_the_credential_are_one_administrator(place: Place) -> None:
    answers: list[int] = []

    def make(name: str) -> None:
        answers.append(place.post(BOOTSTRAP, name).status_code)

    both = [threading.Thread(target=make, args=(name,)) for name in ("anna", "eve")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert sorted(answers) == [201, 403]
    assert len(place.users()) == 1


def test_the_operator_makes_more_of_them_with_one_role(place: Place) -> None:
    first, second = place.post(OPERATOR, "anna"), place.post(OPERATOR, "ben")
    assert first.get_json()["role_id"] == second.get_json()["role_id"]
    taken = place.post(OPERATOR, "anna")
    assert (taken.status_code, taken.get_json()["code"]) == (409, "user.exists")
    # A role of that name that may less is not what a new administrator gets.
    place.backing.execute("DELETE FROM instance.role_permissions WHERE permission = 'backup.hold'")
    third = place.post(OPERATOR, "carla")
    assert third.get_json()["role_id"] != first.get_json()["role_id"]
    names = {row[0] for row in place.backing.rows("SELECT name FROM instance.roles")}
    assert names == {"Backup administrator", "Backup administrator 2"}


@pytest.mark.parametrize(
    "more",
    [
        {"password": "short"}, {"password": "ü" * 600}, {"username": ""}, {"username": "a\x00"},
        {"username": "a\nb"}, {"username": "a" * 256}, {"email": "\x00"}, {"roles": ["owner"]},
    ],
)  # fmt: skip
def test_what_is_no_administrator_changes_nothing(place: Place, more: dict[str, Any]) -> None:
    refused = place.post(OPERATOR, "anna", **{k: v for k, v in more.items() if k != "username"})
    if "username" in more:
        refused = place.post(OPERATOR, more["username"])
    assert (refused.status_code, refused.get_json()["code"]) == (400, "usage.invalid")
    assert "short" not in refused.get_data(as_text=True)
    assert not [user for user in place.users() if user != "anna"]
