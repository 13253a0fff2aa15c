"""Web sessions: who signs in, what a session may do, what ends it, what another page cannot do."""

from __future__ import annotations

import hashlib
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from argon2 import PasswordHasher
from flask.testing import FlaskClient

from serving.access.attempts import ADDRESS, MOST_ROWS, attempt_of, count_attempt, forgive
from serving.access.keeper import AccessKeeper
from serving.access.passwords import decoy_hash, hash_password
from serving.audit import RefusalAudit
from shared.errors import TooManyAttempts
from shared.secretfiles import write_secret_file
from tests.accessing import HASHER, PASSWORD, Doors
from tests.plugins.postgres import TestPostgres


@pytest.fixture(scope="module")
def shared(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    return Doors.create(postgres, tmp_path_factory.mktemp("doors"))


@pytest.fixture
def doors(shared: Doors) -> Doors:
    """One place for all tests of this file: each has users and addresses of its own."""
    shared.execute("DELETE FROM access.attempts")
    return shared


def new_name() -> str:
    return f"user {uuid4().hex[:8]}"


def test_a_session_may_do_what_its_roles_at_the_instance_allow_and_nothing_else(
    doors: Doors,
) -> None:
    name = new_name()
    doors.add_user(name, "backup.create", "backup.nonsense", "secret.read")
    browser, csrf = doors.signed_in(name)
    assert browser.get("/created").status_code == 200
    assert browser.post("/created", headers=csrf).status_code == 200
    assert browser.get("/metrics").get_json()["code"] == "access.denied"
    shown = browser.get("/api/v1/session").get_json()
    assert (shown["name"], shown["permissions"]) == (f"user:{name}", ["create"])


def test_a_role_bound_to_a_project_opens_nothing_here(doors: Doors) -> None:
    name = new_name()
    role = doors.add_user(name)
    doors.grant(role, "backup.create")
    doors.execute(
        "UPDATE instance.role_bindings SET scope_kind = 'project', scope_id = %s WHERE role_id = %s",
        uuid4(), role,
    )  # fmt: skip
    browser, _ = doors.signed_in(name)
    assert browser.get("/created").get_json()["code"] == "access.denied"


def test_the_cookie_is_closed_to_scripts_and_other_sites_and_only_its_digest_is_stored(
    doors: Doors,
) -> None:
    name = new_name()
    doors.add_user(name)
    answer = doors.browser().post("/api/v1/session", json=doors.credentials(name))
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"secryn-session-{doors.access.instance_id.hex[:12]}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    value = cookie.partition("=")[2].partition(";")[0]
    assert value not in answer.get_data(as_text=True)
    (stored,) = doors.rows("SELECT digest FROM access.sessions WHERE username = %s", name)
    assert stored == (hashlib.sha256(value.encode()).digest(),)
    assert not [r for r in doors.rows("SELECT s::text FROM access.sessions s") if value in r[0]]


def test_behind_tls_the_cookie_is_the_hosts_alone(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    browser = doors.browser()
    answer = browser.post(
        "/api/v1/session", json=doors.credentials(name), base_url="https://localhost"
    )
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-secryn-session-")
    assert "Secure" in cookie.split("; ")
    value = cookie.partition("=")[2].partition(";")[0]
    # One that a plain page has planted is none.
    planted = f"secryn-session-{doors.access.instance_id.hex[:12]}={value}"
    assert doors.bare(planted, "https://localhost").status_code == 401
    assert doors.bare(f"__Host-{planted}", "https://localhost").status_code == 403
    assert browser.get("/api/v1/session", base_url="https://localhost").status_code == 200


def test_an_unsafe_request_needs_the_sessions_own_token_in_header_or_form(doors: Doors) -> None:
    name, other = new_name(), new_name()
    doors.add_user(name, "backup.create")
    doors.add_user(other, "backup.create")
    browser, csrf = doors.signed_in(name)
    _, others = doors.signed_in(other)
    for headers in ({}, others, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "é"}):
        assert browser.post("/created", headers=headers).get_json()["code"] == "access.cross_site"
    assert browser.post("/created", data={"csrf_token": csrf["X-CSRF-Token"]}).status_code == 200
    for origin in ("http://localhost:1", "https://evil.example", "null"):
        answer = browser.post("/created", headers=csrf | {"Origin": origin})
        assert answer.get_json()["code"] == "access.cross_site"
    assert (
        browser.post("/created", headers=csrf | {"Origin": "http://localhost"}).status_code == 200
    )


def test_a_page_of_another_site_cannot_sign_anybody_in(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = doors.browser().post(
            "/api/v1/session", json=doors.credentials(name), headers=header
        )
        assert answer.get_json()["code"] == "access.cross_site"
        assert "Set-Cookie" not in answer.headers


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name, "backup.create")
    browser, csrf = doors.signed_in(name)
    cookie = browser.get_cookie(f"secryn-session-{doors.access.instance_id.hex[:12]}")
    assert cookie is not None
    assert browser.delete("/api/v1/session", headers=csrf).status_code == 204
    copy = doors.bare(f"{cookie.key}={cookie.value}")
    assert copy.get_json()["code"] == "access.session_ended"
    assert browser.get("/created").get_json()["code"] == "access.unauthenticated"


def test_a_session_ends_when_it_is_not_used_and_at_the_latest_after_twelve_hours(
    doors: Doors,
) -> None:
    name = new_name()
    doors.add_user(name, "backup.create")
    idle, _ = doors.signed_in(name)
    busy, _ = doors.signed_in(name)
    for _ in range(24):
        doors.clock.pass_(minutes=29)
        assert busy.get("/created").status_code == 200
    assert "not used" in idle.get("/created").get_json()["detail"]
    doors.clock.pass_(minutes=25)
    assert "open for too long" in busy.get("/created").get_json()["detail"]


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/created", {"X-Background": "1"}), ("/created", {"Accept": "text/event-stream"}),
        ("/created?background", {}),
    ],
    ids=["poll", "stream", "reload"],
)  # fmt: skip
def test_a_page_that_looks_by_itself_keeps_no_session_open(
    doors: Doors, path: str, header: dict[str, str]
) -> None:
    name = new_name()
    doors.add_user(name, "backup.create")
    browser, _ = doors.signed_in(name)
    for _ in range(29):
        doors.clock.pass_(minutes=1)
        assert browser.get(path, headers=header).status_code == 200
    doors.clock.pass_(minutes=1)
    assert "not used" in browser.get(path, headers=header).get_json()["detail"]


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ("UPDATE instance.users SET enabled = false WHERE id = %s", "disabled"),
        (
            "WITH given AS (SELECT %s::uuid AS id), bound AS (DELETE FROM instance.role_bindings b "
            "USING given WHERE b.user_id = given.id) DELETE FROM instance.users u USING given "
            "WHERE u.id = given.id",
            "disabled or gone",
        ),
        ("UPDATE instance.users SET password_hash = 'x' WHERE id = %s", "password was changed"),
        ("UPDATE instance.users SET password_changed_at = now() WHERE id = %s", "password"),
        ("DELETE FROM instance.role_bindings WHERE user_id = %s", "roles were changed"),
        (
            "INSERT INTO instance.role_permissions SELECT role_id, 'backup.read' "
            "FROM instance.role_bindings WHERE user_id = %s",
            "roles were changed",
        ),
        (
            "UPDATE instance.log_position SET epoch = epoch + (%s::uuid IS NOT NULL)::int",
            "restored",
        ),
    ],
)
def test_what_changes_about_a_person_ends_its_sessions_at_once(
    doors: Doors, change: str, because: str
) -> None:
    name = new_name()
    doors.add_user(name, "backup.create")
    browser, _ = doors.signed_in(name)
    doors.execute(change, doors.users[name])
    for _ in range(2):
        answer = browser.get("/created")
        assert (answer.status_code, answer.get_json()["code"]) == (401, "access.session_ended")
        assert because in answer.get_json()["detail"]
    ended = [
        e for e in doors.audited("session.end") if e["actor"]["user"]["name"] == f"user:{name}"
    ]
    assert len(ended) == 1


def test_who_is_refused_learns_the_same_whatever_was_wrong(doors: Doors) -> None:
    name, off, elsewhere = new_name(), new_name(), new_name()
    doors.add_user(name)
    doors.add_user(off)
    doors.add_user(elsewhere, password=None)
    doors.execute("UPDATE instance.users SET enabled = false WHERE username = %s", off)
    bodies = []
    tries = [(name, "wrong"), (off, PASSWORD), (elsewhere, PASSWORD), (new_name(), PASSWORD)]
    for tried, password in tries:
        answer = doors.browser().post("/api/v1/session", json=doors.credentials(tried, password))
        bodies.append(answer.get_json() | {"correlation_id": ""})
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)
    assert bodies == [bodies[0]] * 4
    assert bodies[0]["code"] == "access.sign_in_refused"


def test_a_refused_sign_in_is_audited_with_the_account_and_never_with_what_was_typed(
    doors: Doors,
) -> None:
    name, typed = new_name(), "my password in the wrong field"
    doors.add_user(name)
    before = len(doors.audited("http.post"))
    for tried in (name, typed):
        doors.browser().post("/api/v1/session", json=doors.credentials(tried, "wrong"))
    known, unknown = doors.audited("http.post")[before:]
    assert known["unmapped"]["details"] == {"account": f"user:{name}"}
    assert unknown["unmapped"]["details"] == {}
    assert typed not in str(doors.audited("http.post"))


def test_proof_is_given_again_with_the_password(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    browser, csrf = doors.signed_in(name)
    first = browser.get("/api/v1/session").get_json()["proven_at"]
    doors.clock.pass_(minutes=6)
    refused = browser.post("/api/v1/session/prove", json={"password": "wrong"}, headers=csrf)
    assert refused.get_json()["code"] == "access.sign_in_refused"
    assert browser.get("/api/v1/session").get_json()["proven_at"] == first
    given = browser.post("/api/v1/session/prove", json={"password": PASSWORD}, headers=csrf)
    assert given.get_json()["proven_at"] == doors.clock.now().isoformat()
    assert browser.get("/api/v1/session").get_json()["proven_at"] == given.get_json()["proven_at"]


def test_the_operators_token_needs_neither_cookie_nor_csrf_token(doors: Doors) -> None:
    header = {"Authorization": "Bearer token"}
    assert doors.browser().post("/created", headers=header).status_code == 200
    name = new_name()
    doors.add_user(name, "backup.create")
    browser, _ = doors.signed_in(name)
    # A token that opens nothing is not made good by the cookie beside it.
    wrong = {"Authorization": "Bearer wrong"}
    assert browser.get("/created", headers=wrong).status_code == 401


def test_a_name_that_was_guessed_at_waits_and_other_addresses_and_accounts_do_not(
    doors: Doors,
) -> None:
    name, other = new_name(), new_name()
    doors.add_user(name)
    doors.add_user(other)
    guesser = doors.browser("198.51.100.7")
    for _ in range(5):
        wrong = guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
        assert wrong.status_code == 401
    # The right password waits, too: otherwise the wait would be none.
    right = guesser.post("/api/v1/session", json=doors.credentials(name))
    assert (right.status_code, right.get_json()["code"]) == (429, "access.too_many_attempts")
    assert right.headers["Retry-After"] == "1"
    assert doors.signed_in(name, "203.0.113.9")
    assert guesser.post("/api/v1/session", json=doors.credentials(other)).status_code == 201
    doors.clock.pass_(seconds=1)
    for wait_s in (2, 4, 8):
        wrong = guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
        assert wrong.status_code == 401
        again = guesser.post("/api/v1/session", json=doors.credentials(name))
        assert again.headers["Retry-After"] == str(wait_s)
        doors.clock.pass_(seconds=wait_s)
    assert guesser.post("/api/v1/session", json=doors.credentials(name)).status_code == 201
    wrong = guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
    assert wrong.status_code == 401


def test_an_unknown_name_waits_as_a_known_one_does(doors: Doors) -> None:
    guesser, nobody = doors.browser("198.51.100.8"), new_name()
    codes = [
        guesser.post("/api/v1/session", json=doors.credentials(nobody)).get_json()["code"]
        for _ in range(6)
    ]
    assert codes == ["access.sign_in_refused"] * 5 + ["access.too_many_attempts"]


# Who shares an address with a guesser: on one machine, behind one gateway, everybody does.


def exhaust(doors: Doors, address: str, times: int = 60) -> None:
    """Fail from an address on one account after the other until it has to wait."""
    guesser = doors.browser(address)
    codes = [
        guesser.post("/api/v1/session", json=doors.credentials(f"nobody {n}")).get_json()["code"]
        for n in range(times)
    ]
    assert codes[:50] == ["access.sign_in_refused"] * 50
    assert codes[50:] == ["access.too_many_attempts"] * (times - 50)


def test_an_address_waits_from_its_fiftieth_failure_on_and_at_most_a_minute(doors: Doors) -> None:
    address, name, stranger = "198.51.100.40", new_name(), doors.browser("198.51.100.40")
    doors.add_user(name)
    exhaust(doors, address, 52)
    for _ in range(12):
        waits = stranger.post("/api/v1/session", json=doors.credentials(name))
        assert waits.status_code == 429
        wait_s = int(waits.headers["Retry-After"])
        assert 0 < wait_s <= 60
        doors.clock.pass_(seconds=wait_s)
        assert (
            stranger.post("/api/v1/session", json=doors.credentials(new_name())).status_code == 401
        )
    assert wait_s == 60
    assert doors.browser("198.51.100.41").post(
        "/api/v1/session", json=doors.credentials(name)
    ).status_code == 201  # fmt: skip
    # Whoever is right takes back the wait that its own try began, and no more.
    doors.clock.pass_(seconds=60)
    for _ in range(3):
        new = doors.browser(address)
        assert new.post("/api/v1/session", json=doors.credentials(name)).status_code == 201
    assert stranger.post("/api/v1/session", json=doors.credentials(new_name())).status_code == 401
    assert stranger.post("/api/v1/session", json=doors.credentials(new_name())).status_code == 429


def test_who_is_right_takes_back_no_wait_that_began_behind_it(doors: Doors) -> None:
    mine, theirs = (attempt_of(f"user:{new_name()}", "198.51.100.47") for _ in range(2))
    with doors.access.transaction("a test") as conn:
        began = doors.clock.now()
        for number in range(ADDRESS.free - 2):
            count_attempt(conn, attempt_of(f"user:{number}", "198.51.100.47"), began)
        count_attempt(conn, mine, began)
        later = began + timedelta(seconds=0.1)
        count_attempt(conn, theirs, later)
        forgive(conn, mine, began)
        with pytest.raises(TooManyAttempts):
            count_attempt(conn, mine, later)


def test_a_browser_that_somebody_signed_in_from_before_is_not_held_up(doors: Doors) -> None:
    address, name, other = "198.51.100.42", new_name(), new_name()
    for user in (name, other):
        doors.add_user(user)
    browser, csrf = doors.signed_in(name, address)
    assert browser.delete("/api/v1/session", headers=csrf).status_code == 204
    exhaust(doors, address)
    guesser = doors.browser(address)
    for _ in range(6):
        guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
    assert doors.browser(address).post(
        "/api/v1/session", json=doors.credentials(name)
    ).status_code == 429  # fmt: skip
    # Bound to the user: it is a stranger to every other account.
    assert browser.post("/api/v1/session", json=doors.credentials(other)).status_code == 429
    wrong = browser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
    unknown = guesser.post("/api/v1/session", json=doors.credentials(new_name(), "wrong"))
    assert (wrong.status_code, unknown.status_code) == (401, 429)
    assert browser.post("/api/v1/session", json=doors.credentials(name)).status_code == 201


def test_a_known_browser_has_a_limit_of_its_own(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    browser, _ = doors.signed_in(name, "198.51.100.43")
    codes = [
        browser.post("/api/v1/session", json=doors.credentials(name, "wrong")).status_code
        for _ in range(6)
    ]
    assert codes == [401] * 5 + [429]
    # And counts nothing where it stands, or for anybody else.
    assert doors.signed_in(name, "198.51.100.43")


def test_the_cookie_of_a_known_browser_is_new_each_time_and_only_its_digest_is_stored(
    doors: Doors,
) -> None:
    name, other, address = new_name(), new_name(), "198.51.100.44"
    for user in (name, other):
        doors.add_user(user)
    browser, key = doors.browser(address), f"secryn-device-{doors.access.instance_id.hex[:12]}"
    values = []
    for user in (name, other, name):
        answer = browser.post("/api/v1/session", json=doors.credentials(user))
        (cookie,) = [c for c in answer.headers.getlist("Set-Cookie") if c.startswith(key)]
        assert {"HttpOnly", "SameSite=Strict", "Max-Age=7776000"} <= set(cookie.split("; "))
        value = cookie.partition("=")[2].partition(";")[0]
        assert value not in answer.get_data(as_text=True)
        values.append(value)
    assert len(set(values)) == 3
    stored = doors.rows("SELECT d::text FROM access.devices d")
    assert not [row for row in stored if any(v in row[0] for v in values) or name in row[0]]
    exhaust(doors, address)
    for value, status in ((values[0], 429), ("x", 429), ("\u00e9", 429), (values[2], 201)):
        copy = doors.browser(address)
        copy.set_cookie(key, value)
        for user in (name, other)[: 1 if status == 201 else 2]:
            got = copy.post("/api/v1/session", json=doors.credentials(user))
            assert got.status_code == status, value
    doors.clock.pass_(hours=91 * 24)
    AccessKeeper(doors.access, RefusalAudit(doors.restoring.context.record)).tidy()
    assert not doors.rows("SELECT 1 FROM access.devices")


def test_who_is_signed_in_proves_it_whatever_others_do_at_the_same_address(doors: Doors) -> None:
    address, name = "198.51.100.45", new_name()
    doors.add_user(name)
    (browser, csrf), (thief, others) = (doors.signed_in(name, address) for _ in range(2))
    exhaust(doors, address)

    def prove(who: FlaskClient, password: str, headers: dict[str, str]) -> int:
        body = {"password": password}
        return who.post("/api/v1/session/prove", json=body, headers=headers).status_code

    # One session's failures are its own.
    assert [prove(thief, "wrong", others) for _ in range(6)] == [401] * 5 + [429]
    assert prove(browser, PASSWORD, csrf) == 200
    # It has counted nothing under the address, and taken nothing back there.
    (row,) = doors.rows("SELECT max(failures) FROM access.attempts WHERE blocked_until > %s",
                        doors.clock.now())  # fmt: skip
    assert row == (50,)


def test_who_has_the_bootstrap_credential_waits_for_nobody(
    postgres: TestPostgres, tmp_path: Path
) -> None:
    place, address = Doors.create(postgres, tmp_path), "198.51.100.46"
    made_at = place.clock.now().isoformat()
    file = place.access.bootstrap_file
    assert file is not None
    write_secret_file(file, f"the credential\n{made_at}\n".encode(), exist_ok=True)
    tries = [
        place.browser(address).post("/api/v1/session/bootstrap", json={"token": "x"}).status_code
        for _ in range(6)
    ]
    assert tries == [401] * 5 + [429]
    right = place.browser(address).post(
        "/api/v1/session/bootstrap", json={"token": "the credential"}
    )
    assert right.status_code == 201


def test_an_old_failure_is_forgotten(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    guesser = doors.browser("198.51.100.9")
    for _ in range(5):
        guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
    doors.clock.pass_(hours=1, seconds=1)
    for _ in range(4):
        wrong = guesser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
        assert wrong.status_code == 401
    assert HASHER.verify(HASHER.hash(PASSWORD), PASSWORD)


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"username": "a"}, {"username": "a", "password": 1},
        {"username": "a", "password": ""}, {"username": "a" * 256, "password": "x"},
        {"username": "a", "password": "x" * 1025}, {"username": "a", "password": "ü" * 1024},
        {"username": "a", "password": "x", "next": "/"},
    ],
)  # fmt: skip
def test_a_sign_in_that_is_none_is_refused_by_the_field(doors: Doors, body: object) -> None:
    answer = doors.browser().post("/api/v1/session", json=body)
    assert (answer.status_code, answer.get_json()["code"]) == (400, "usage.invalid")


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\x00b"])
def test_a_name_that_postgresql_does_not_store_is_an_unknown_one(doors: Doors, text: str) -> None:
    for body in (doors.credentials(text, "wrong"), doors.credentials("anna", text)):
        answer = doors.browser().post("/api/v1/session", json=body)
        assert answer.status_code in {400, 401}, answer.get_json()


def test_a_session_of_another_instance_is_none(
    doors: Doors, postgres: TestPostgres, tmp_path: Path
) -> None:
    name = new_name()
    doors.add_user(name, "backup.create")
    browser, _ = doors.signed_in(name)
    cookie = browser.get_cookie(f"secryn-session-{doors.access.instance_id.hex[:12]}")
    assert cookie is not None
    elsewhere = Doors.create(postgres, tmp_path)
    named = f"secryn-session-{elsewhere.access.instance_id.hex[:12]}"
    assert doors.bare(f"{named}={cookie.value}").status_code == 401
    assert elsewhere.bare(f"{named}={cookie.value}").status_code == 401
    assert doors.bare(f"{cookie.key}={cookie.value}").status_code == 200


def test_an_unknown_name_costs_what_a_hash_of_this_instance_costs(doors: Doors) -> None:
    known = {h[0] for h in doors.rows("SELECT password_hash FROM instance.users")}
    used = {_cost(h) for h in known if h is not None and h.startswith("$argon2id$")}
    with doors.access.transaction("a test") as conn:
        decoys = [decoy_hash(conn, f"nobody {n}") for n in range(20)]
        assert decoys == [decoy_hash(conn, f"nobody {n}") for n in range(20)]
    assert {_cost(decoy) for decoy in decoys} <= used | {_cost(hash_password("x" * 12))}


def _cost(stored: str) -> str:
    return stored.split("$")[3]


def test_an_unknown_name_takes_as_long_as_a_wrong_password(
    postgres: TestPostgres, tmp_path: Path
) -> None:
    place = Doors.create(postgres, tmp_path)
    place.add_user("anna")
    dear = PasswordHasher(time_cost=12, memory_cost=32 * 1024, parallelism=1).hash(PASSWORD)
    place.execute("UPDATE instance.users SET password_hash = %s", dear)

    def ask(name: str, number: int) -> tuple[float, float]:
        """Return the seconds of work, and all that passed."""
        browser = place.browser(f"198.51.100.{number}")
        worked, began = time.process_time(), time.monotonic()
        browser.post("/api/v1/session", json=place.credentials(name, "wrong"))
        return time.process_time() - worked, time.monotonic() - began

    # In turns, and the work itself: whatever else the machine does is not the difference.
    asked = {"anna": list[tuple[float, float]](), "nobody": list[tuple[float, float]]()}
    for number in range(1, 6):
        for name, times in asked.items():
            times.append(ask(name, number))
    for kind, most in (0, 2), (1, 4):
        known, unknown = (min(times[kind] for times in found) for found in asked.values())
        assert 1 / most < known / unknown < most, asked


def test_many_tries_at_once_are_not_more_than_one_after_another(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    codes: list[str] = []

    def guess() -> None:
        browser = doors.browser("198.51.100.77")
        answer = browser.post("/api/v1/session", json=doors.credentials(name, "wrong"))
        codes.append(answer.get_json()["code"])

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(codes) == 12
    assert codes.count("access.sign_in_refused") <= 5
    assert codes.count("access.too_many_attempts") >= 7


def test_what_is_old_is_forgotten(doors: Doors) -> None:
    name = new_name()
    doors.add_user(name)
    doors.signed_in(name)
    doors.browser().post("/api/v1/session", json=doors.credentials(name, "wrong"))
    refusals = RefusalAudit(doors.restoring.context.record)
    AccessKeeper(doors.access, refusals).tidy()
    assert doors.rows("SELECT 1 FROM access.sessions WHERE username = %s", name)
    doors.clock.pass_(hours=37)
    AccessKeeper(doors.access, refusals).tidy()
    assert not doors.rows("SELECT 1 FROM access.sessions WHERE username = %s", name)
    assert not doors.rows("SELECT 1 FROM access.attempts")


def test_of_too_many_tries_those_that_wait_or_came_far_are_kept(doors: Doors) -> None:
    name, near = new_name(), new_name()
    doors.add_user(name)
    doors.add_user(near)
    guesser = doors.browser("198.51.100.78")
    for account, times in ((name, 5), (near, 4)):
        for _ in range(times):
            guesser.post("/api/v1/session", json=doors.credentials(account, "wrong"))
    doors.clock.pass_(seconds=0.5)
    doors.execute(
        "INSERT INTO access.attempts SELECT sha256(n::text::bytea), 1, %s, NULL "
        "FROM generate_series(1, %s) n",
        doors.clock.now(), MOST_ROWS + 10,
    )  # fmt: skip
    AccessKeeper(doors.access, RefusalAudit(doors.restoring.context.record)).tidy()
    # One waits still, and is none of those.
    (kept,) = doors.rows("SELECT count(*) FROM access.attempts")
    assert kept == (MOST_ROWS + 1,)
    answer = guesser.post("/api/v1/session", json=doors.credentials(name))
    assert answer.get_json()["code"] == "access.too_many_attempts"
    codes = [
        guesser.post("/api/v1/session", json=doors.credentials(near, "wrong")).get_json()["code"]
        for _ in range(2)
    ]
    assert codes == ["access.sign_in_refused", "access.too_many_attempts"]


def test_a_wait_that_lasts_is_kept_however_old(doors: Doors) -> None:
    now = doors.clock.now()
    doors.execute(
        "INSERT INTO access.attempts VALUES (%s, 9, %s, %s), (%s, 9, %s, %s)",
        b"waits", now - timedelta(hours=2), now + timedelta(seconds=1),
        b"waited", now - timedelta(hours=2), now,
    )  # fmt: skip
    AccessKeeper(doors.access, RefusalAudit(doors.restoring.context.record)).tidy()
    assert doors.rows("SELECT key FROM access.attempts") == [(b"waits",)]
