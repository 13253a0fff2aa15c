"""At the door: what was pasted into an address stays there, and two windows of one browser."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import structlog
from flask.testing import FlaskClient

from shared.errors import StalePage
from tests.accessing import HASHER, PASSWORD
from tests.callers import House
from tests.plugins.postgres import TestPostgres

PREFIX = {"backup": "/admin", "restore": "/admin/restore"}
RANDOM = secrets.token_urlsafe(32)
SECRETS = {
    "operator": RANDOM,
    "token": f"secryn-token.{uuid4()}.{RANDOM}",
    "receipt": f"secryn-receipt.{uuid4()}.{RANDOM}",
}
ADDRESSES = [
    "{prefix}/backups?token={secret}",
    "{prefix}/audit?actor=anna&anything={secret}",
    "{prefix}/audit?{secret}",
    "{prefix}/{secret}",
    "{prefix}/backups/{secret}",
    "{prefix}/restores/{secret}?state=x",
    # Where a slash is put right, and where an address stands within an address.
    "{prefix}?token={secret}",
    "{prefix}/sign-in?next={prefix}/audit%3Factor%3Danna%26x%3D{secret}",
    "{prefix}/prove?next={prefix}/audit%3Fx%3D{secret}",
]


@pytest.fixture(scope="module")
def shared(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("door") / "house")
    made.execute("UPDATE instance.users SET password_hash = %s", HASHER.hash(PASSWORD))
    with made.stack:
        yield made


@pytest.fixture
def house(shared: House) -> House:
    """One place for all tests of this file, and nobody has tried anything yet."""
    shared.execute("DELETE FROM access.attempts")
    return shared


def told(answer: Any) -> str:
    """Return what an answer sends the browser on to."""
    return " ".join(answer.headers.get(name, "") for name in ("Location", "HX-Redirect"))


def written(house: House) -> str:
    """Return everything that both services have written down."""
    rows = []
    for context in (house.restoring.context, house.backup):
        with context.pool.connection() as conn:
            rows += context.store.read_stream(conn, "audit")
    return repr([row.data for row in rows])


@pytest.mark.parametrize("service", ["backup", "restore"])
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_token_in_an_address_goes_no_further(
    house: House, service: str, secret: str, address: str
) -> None:
    path = address.format(prefix=PREFIX[service], secret=secret)
    client = house.apps[service].test_client(use_cookies=False)
    callers = {
        "nobody": {},
        "ended": house.session("everything", because="signed_out"),
        "reader": house.session("read"),
        "old": house.session("everything", age_s=301),
    }
    with structlog.testing.capture_logs() as logs:
        for who, headers in callers.items():
            for more in ({}, {"HX-Request": "true"}):
                answer = client.get(path, headers=headers | more)
                assert RANDOM not in told(answer), who
                assert answer.status_code < 500
                if who in {"nobody", "ended"}:
                    assert RANDOM not in answer.get_data(as_text=True)
            # A form that stood at that address.
            referrer = {"Referer": f"http://localhost{path}"}
            answer = client.post(f"{PREFIX[service]}/sign-out", headers=headers | referrer, data={})
            assert RANDOM not in told(answer), who
            answer = client.post(path, headers=headers | referrer, data={"password": "x"})
            assert RANDOM not in told(answer), who
    assert RANDOM not in repr(logs)
    assert RANDOM not in written(house)


def test_who_signs_in_behind_it_comes_to_the_page_and_is_told(house: House) -> None:
    client = house.apps["backup"].test_client()
    door = client.get(f"/admin/audit?actor=anna&token={RANDOM}").headers["Location"]
    page = client.get(door).get_data(as_text=True)
    assert "A secret stood in the address" in page
    assert RANDOM not in page
    (following,) = re.findall(r'name="next" value="([^"]*)"', page)
    assert following == "/admin/audit?actor=anna"
    assert "A secret" not in client.get("/admin/sign-in").get_data(as_text=True)
    # A form that somebody else wrote.
    form = {"name": "everything", "password": PASSWORD, "next": f"/admin/audit?x={quote(RANDOM)}"}
    entered = client.post("/admin/sign-in", data=form)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/admin/audit")


# Two windows


def token_of(client: FlaskClient, path: str) -> str:
    page = client.get(path).get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]


def enter(client: FlaskClient, name: str, password: str = PASSWORD) -> Any:
    form = {"name": name, "password": password, "next": "/admin/backups/new"}
    return client.post("/admin/sign-in", data=form, headers={"Origin": "http://localhost"})


def test_both_of_two_windows_sign_in_and_the_forms_of_both_hold(house: House) -> None:
    client = house.apps["backup"].test_client()
    for _ in range(2):
        assert client.get("/admin/sign-in").status_code == 200
    assert enter(client, "everything").status_code == 303
    first = token_of(client, "/admin/backups/new")
    # The other window still shows its form; what is typed there is checked as ever.
    wrong = enter(client, "everything", "wrong")
    assert (wrong.status_code, "Set-Cookie" in wrong.headers) == (401, False)
    entered = enter(client, "everything")
    assert (entered.status_code, entered.headers["Location"]) == (303, "/admin/backups/new")
    assert token_of(client, "/admin/backups/new") == first
    assert client.post("/admin/sign-out", data={"csrf_token": first}).status_code == 303


def test_a_form_of_another_persons_window_does_nothing_and_says_so(house: House) -> None:
    client = house.apps["backup"].test_client()
    before = enter(client, "everything").headers["Set-Cookie"].partition(";")[0]
    first = token_of(client, "/admin/backups/new")
    assert enter(client, "create").status_code == 303
    referrer = {"Referer": "http://localhost/admin/backups/new?x=1"}
    stale = client.post(
        "/admin/sign-out",
        data={"csrf_token": first},
        headers=referrer | {"Origin": "http://localhost"},
    )
    page = stale.get_data(as_text=True)
    assert stale.status_code == StalePage.http_status
    assert "This page is from before another sign-in" in page
    assert "<strong>create</strong>" in page
    assert 'href="/admin/backups/new?x=1"' in page
    assert first not in page
    # The one who came in last is still in, and the first session is over for whoever has its cookie.
    assert client.get("/api/v1/session").get_json()["name"] == "user:create"
    other = house.apps["backup"].test_client(use_cookies=False)
    over = other.get("/api/v1/session", headers={"Cookie": before})
    assert over.get_json()["code"] == "access.session_ended"


def test_a_form_behind_the_end_of_its_session_leads_to_the_door(house: House) -> None:
    client = house.apps["backup"].test_client()
    enter(client, "everything")
    first = token_of(client, "/admin/backups/new")
    assert client.post("/admin/sign-out", data={"csrf_token": first}).status_code == 303
    again = client.post("/admin/sign-out", data={"csrf_token": first})
    assert (again.status_code, again.headers["Location"][:15]) == (303, "/admin/sign-in?")
    assert enter(client, "everything").status_code == 303


# Why, and what is kept on the way


@pytest.mark.parametrize(
    ("because", "told"),
    [
        ("restored", "The instance was restored"), ("password_changed", "The password was changed"),
        ("idle", "Nobody used it"), ("expired", "as long as one may be"),
        ("roles_changed", "may do was changed"), ("disabled", "disabled"), ("signed_out", "signed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("service", ["backup", "restore"])
def test_the_door_says_why_a_session_ended_to_whoever_had_it(
    house: House, service: str, because: str, told: str
) -> None:
    client = house.apps[service].test_client(use_cookies=False)
    path = f"{PREFIX[service]}/audit?outcome=failure"
    door = client.get(path, headers=house.session("everything", because=because))
    page = client.get(door.headers["Location"]).get_data(as_text=True)
    assert told in page
    (following,) = re.findall(r'name="next" value="([^"]*)"', page)
    assert following == path
    # Who has no cookie of one is told nothing of any.
    stranger = client.get(path).headers["Location"]
    assert "Your session has ended" not in client.get(stranger).get_data(as_text=True)


def test_the_door_repeats_no_words_of_an_address(house: House) -> None:
    client = house.apps["backup"].test_client()
    page = client.get("/admin/sign-in?ended=Call+0800+now").get_data(as_text=True)
    assert "0800" not in page
    assert "Your session has ended" not in page


def test_a_proof_on_the_way_to_the_checks_keeps_everything_but_the_key(house: House) -> None:
    client = house.apps["restore"].test_client(use_cookies=False)
    headers = house.session("everything", age_s=301)
    backup_id, secret = str(uuid4()), "AGE-SECRET-KEY-1NOTTOBESEENAGAIN"
    form = {
        "csrf_token": headers["X-CSRF-Token"], "backup_id": "other", "other_backup_id": backup_id,
        "key": secret, "source_instance_id": str(uuid4()), "roll_forward": "latest",
    }  # fmt: skip
    asked = client.post("/admin/restore/check", data=form, headers=headers)
    page = asked.get_data(as_text=True)
    assert (asked.status_code, "Once more, please" in page) == (403, True)
    assert secret not in page
    assert "the key alone is asked for once more" in page
    carried = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page))
    assert carried["other_backup_id"] == backup_id
    proven = client.post(
        "/admin/restore/prove", data=carried | {"password": PASSWORD}, headers=headers
    )
    assert (proven.status_code, proven.headers["Location"]) == (307, "/admin/restore/check")
    # The browser sends the form again, as it is.
    again = client.post(
        "/admin/restore/check", data=carried | {"password": PASSWORD}, headers=headers
    )
    page = again.get_data(as_text=True)
    assert again.status_code == 200
    assert "The key once more, please" in page
    for value in (form["source_instance_id"], "latest"):
        assert f'value="{value}"' in page
    assert PASSWORD not in page
