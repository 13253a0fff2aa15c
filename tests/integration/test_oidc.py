"""Sign-in by a real OpenID Connect provider: out, back, and everything that does not fit."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from flask import Flask, g
from flask.testing import FlaskClient

from serving.access.attempts import FLOWS, attempt_in_flow, count_attempt
from serving.access.flow import FLOW_KEY, Flow, flow_held, flow_of
from serving.access.oidc_routes import BACKUPS, RESTORES, Ways, create_oidc_routes
from serving.access.provider import Provider
from serving.access.settings import OidcSettings
from shared.errors import OidcUnavailable, SignInRefused
from shared.settings import WebSettings
from tests.accessing import PASSWORD, Doors
from tests.plugins.oidc import TestProvider
from tests.plugins.postgres import TestPostgres

WEB = WebSettings(backup_url="http://localhost:1", restore_url="http://localhost:2")
WAYS = Ways(BACKUPS, WEB)
# Of the place: both services have it.
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def shared(
    postgres: TestPostgres, oidc: TestProvider, tmp_path_factory: pytest.TempPathFactory
) -> Doors:
    folder = tmp_path_factory.mktemp("doors")
    doors = Doors.create(postgres, folder)
    provider = Provider(oidc.settings(folder))
    doors.app.register_blueprint(
        create_oidc_routes(doors.access, KEY, provider, WAYS, lambda _: None)
    )
    return doors


@pytest.fixture
def doors(shared: Doors) -> Doors:
    shared.execute("DELETE FROM access.attempts")
    # The provider's clock is the machine's.
    shared.clock.time = datetime.now(UTC)
    return shared


def new_name(doors: Doors, *permissions: str) -> str:
    name = f"u{uuid4().hex[:10]}"
    doors.add_user(name, *permissions, password=None)
    return name


def began(browser: FlaskClient, query: str = "") -> str:
    answer = browser.get(f"/api/v1/session/oidc{query}")
    assert answer.status_code == 303
    return answer.headers["Location"]


def came_back(browser: FlaskClient, target: str) -> Any:
    found = urlsplit(target)
    return browser.get(f"{found.path}?{found.query}")


def test_a_user_whom_the_provider_names_is_signed_in(doors: Doors, oidc: TestProvider) -> None:
    name, browser = new_name(doors, "backup.create"), doors.browser()
    address = began(browser)
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["response_type"] == ["code"]
    answer = came_back(browser, oidc.come_back(address, name))
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert any("SameSite=Strict" in c for c in answer.headers.getlist("Set-Cookie"))
    shown = browser.get("/api/v1/session").get_json()
    assert (shown["username"], shown["method"]) == (name, "oidc")
    assert shown["permissions"] == ["create"]
    (entry,) = [
        e for e in doors.audited("session.begin") if e["actor"]["user"]["name"] == f"user:{name}"
    ]
    assert entry["unmapped"]["details"] == {"method": "oidc", "subject": name}


def test_nobody_is_made_by_signing_in(doors: Doors, oidc: TestProvider) -> None:
    off, browser = new_name(doors), doors.browser()
    doors.execute("UPDATE instance.users SET enabled = false WHERE username = %s", off)
    for account in (f"stranger{uuid4().hex[:6]}", off):
        answer = came_back(browser, oidc.come_back(began(browser), account))
        assert answer.get_json()["code"] == "access.sign_in_refused"
        assert browser.get("/api/v1/session").status_code == 401


def test_a_person_is_brought_back_to_the_door_and_a_program_is_told(
    doors: Doors, oidc: TestProvider
) -> None:
    browser = doors.browser()
    target = oidc.come_back(began(browser), f"stranger{uuid4().hex[:6]}")
    found = urlsplit(target)
    answer = browser.get(f"{found.path}?{found.query}", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/admin/sign-in?because=access.sign_in_refused"


def test_a_code_counts_once_and_only_for_the_browser_that_asked(
    doors: Doors, oidc: TestProvider
) -> None:
    name, browser, other = new_name(doors), doors.browser(), doors.browser()
    target = oidc.come_back(began(browser), name)
    began(other)
    for stranger in (other, doors.browser()):
        refused = came_back(stranger, target)
        assert refused.get_json()["code"] == "access.sign_in_refused"
    cookie = browser.get_cookie(f"secryn-oidc-{doors.access.instance_id.hex[:12]}")
    assert cookie is not None
    assert came_back(browser, target).status_code == 200
    browser.set_cookie(cookie.key, cookie.value)
    again = came_back(browser, target)
    assert again.get_json()["code"] == "access.sign_in_refused"


def test_a_person_proves_it_again_at_the_provider(doors: Doors, oidc: TestProvider) -> None:
    name, browser = new_name(doors), doors.browser()
    address = began(browser, "?fresh")
    assert parse_qs(urlsplit(address).query)["prompt"] == ["login"]
    assert came_back(browser, oidc.come_back(address, name)).status_code == 200
    proven = datetime.fromisoformat(browser.get("/api/v1/session").get_json()["proven_at"])
    assert abs((datetime.now(UTC) - proven).total_seconds()) < 60


def session_of(browser: FlaskClient) -> dict[str, Any]:
    shown: dict[str, Any] = browser.get("/api/v1/session").get_json()
    return shown


def begins(doors: Doors, name: str) -> int:
    """Return how many sessions of that user were ever begun."""
    (row,) = doors.rows("SELECT count(*) FROM access.sessions WHERE username = %s", name)
    return int(row[0])


def cookie_of(doors: Doors, browser: FlaskClient, purpose: str) -> Any:
    return browser.get_cookie(f"secryn-{purpose}-{doors.access.instance_id.hex[:12]}")


def test_a_proof_at_the_provider_renews_the_session_in_hand_and_leads_back(
    doors: Doors, oidc: TestProvider
) -> None:
    name, browser = new_name(doors, "backup.create"), doors.browser()
    came_back(browser, oidc.come_back(began(browser), name))
    doors.execute("UPDATE access.sessions SET proven_at = '2020-01-01' WHERE username = %s", name)
    before, cookie = session_of(browser), cookie_of(doors, browser, "session")
    address = began(browser, "?fresh&next=/admin/backups/new%3Fa%3D1")
    # The provider's page is another site: SameSite=Strict keeps the session's cookie back.
    bare, flow = doors.browser(), cookie_of(doors, browser, "oidc")
    bare.set_cookie(flow.key, flow.value)
    answer = came_back(bare, oidc.come_back(address, name))
    assert answer.status_code == 200
    assert "url=/admin/backups/new?a=1" in answer.get_data(as_text=True)
    assert cookie_of(doors, bare, "session") is None
    after = session_of(browser)
    assert (begins(doors, name), cookie_of(doors, browser, "session")) == (1, cookie)
    assert after["csrf_token"] == before["csrf_token"]
    proven = datetime.fromisoformat(after["proven_at"])
    assert abs((datetime.now(UTC) - proven).total_seconds()) < 60
    (entry,) = [
        e for e in doors.audited("session.prove") if e["actor"]["user"]["name"] == f"user:{name}"
    ]
    assert entry["unmapped"]["details"] == {"method": "oidc", "subject": name}


def test_a_proof_by_another_person_proves_nothing(doors: Doors, oidc: TestProvider) -> None:
    name, other, browser = new_name(doors), new_name(doors), doors.browser()
    came_back(browser, oidc.come_back(began(browser), name))
    before = session_of(browser)
    target = oidc.come_back(began(browser, "?fresh&next=/admin/operations"), other)
    found = urlsplit(target)
    answer = browser.get(f"{found.path}?{found.query}", headers={"Accept": "text/html"})
    assert answer.headers["Location"] == (
        "/admin/prove?because=access.sign_in_refused&next=%2Fadmin%2Foperations"
    )
    assert session_of(browser) == before
    assert begins(doors, other) == 0


@pytest.mark.parametrize("ending", ["signed_out", "idle", "restored", "gone"])
@pytest.mark.parametrize("same", [True, False])
def test_where_the_session_has_ended_meanwhile_a_proof_is_a_sign_in(
    doors: Doors, oidc: TestProvider, ending: str, same: bool
) -> None:
    name, browser = new_name(doors), doors.browser()
    came_back(browser, oidc.come_back(began(browser), name))
    comes = name if same else new_name(doors)
    csrf = {"X-CSRF-Token": session_of(browser)["csrf_token"]}
    target = oidc.come_back(began(browser, "?fresh&next=/admin/operations"), comes)
    if ending == "signed_out":
        assert browser.delete("/api/v1/session", headers=csrf).status_code == 204
    elif ending == "idle":
        doors.execute(
            "UPDATE access.sessions SET last_seen_at = %s WHERE username = %s",
            doors.clock.now() - timedelta(hours=1), name,
        )  # fmt: skip
    elif ending == "restored":
        doors.execute("UPDATE access.sessions SET epoch = epoch - 1 WHERE username = %s", name)
    else:
        doors.execute("DELETE FROM access.sessions WHERE username = %s", name)
    answer = came_back(browser, target)
    assert "url=/admin/operations" in answer.get_data(as_text=True)
    assert session_of(browser)["username"] == comes
    # What the old one ended of is noted as such.
    because = dict(
        doors.rows("SELECT ended_because, username FROM access.sessions WHERE username = %s", name)
    )
    expected = ({ending} - {"gone"}) | ({None} if same else set())
    assert set(because) == expected


def test_another_person_who_signs_in_ends_the_session_before(
    doors: Doors, oidc: TestProvider
) -> None:
    name, other, browser = new_name(doors), new_name(doors), doors.browser()
    came_back(browser, oidc.come_back(began(browser), name))
    came_back(browser, oidc.come_back(began(browser), other))
    assert session_of(browser)["username"] == other
    ended = doors.rows("SELECT ended_because FROM access.sessions WHERE username = %s", name)
    assert ended == [("signed_out",)]


@pytest.mark.parametrize(
    ("begun", "prefix", "page"),
    [
        (BACKUPS, "http://localhost:1/admin", "/operations?outcome=failed"),
        (RESTORES, "/admin/restore", "/"),
    ],
)
def test_the_service_that_the_provider_leads_to_sends_on_to_the_one_that_was_left(
    doors: Doors, oidc: TestProvider, tmp_path: Path, begun: str, prefix: str, page: str
) -> None:
    """Both of one host, as cookies see it; the provider knows restore_service's address alone."""
    there, provider = Flask("restore"), Provider(oidc.settings(tmp_path))
    there.before_request(lambda: setattr(g, "correlation_id", "corr-1"))
    ways = Ways(RESTORES, WEB)
    there.register_blueprint(create_oidc_routes(doors.access, KEY, provider, ways, lambda _: None))
    name, browser, at_restores = new_name(doors), doors.browser(), there.test_client()
    for account, leads in (
        (name, f"url={prefix}{page}"),
        (f"stranger{uuid4().hex[:6]}", f"{prefix}/sign-in?because=access.sign_in_refused&next="),
    ):
        address = began(browser, f"?next={quote(begun + page)}")
        flow = cookie_of(doors, browser, "oidc")
        at_restores.set_cookie(flow.key, flow.value)
        found = urlsplit(oidc.come_back(address, account))
        answer = at_restores.get(f"{found.path}?{found.query}", headers={"Accept": "text/html"})
        assert leads in answer.get_data(as_text=True) + answer.headers.get("Location", "")


@pytest.mark.parametrize(
    ("service", "wanted", "leads"),
    [
        (BACKUPS, None, "/admin/home"),
        (BACKUPS, "/admin/operations?page=2", "/admin/operations?page=2"),
        (BACKUPS, "/admin/restore/", "http://localhost:2/admin/restore/"),
        (RESTORES, None, "/admin/restore/home"),
        (RESTORES, "/admin/restore/audit", "/admin/restore/audit"),
        (RESTORES, "/admin/backups", "http://localhost:1/admin/backups"),
        (BACKUPS, "https://evil.example/admin/", "/admin/home"),
        (BACKUPS, "//evil.example/admin/", "/admin/home"),
        (BACKUPS, "/admin/../x", "/admin/home"),
        (RESTORES, "/admin/restore/%2e%2E/x", "/admin/restore/home"),
        (RESTORES, "/api/v1/session", "/admin/restore/home"),
        (BACKUPS, f"/admin/audit?token=secryn-token.{'aB3' * 20}", "/admin/audit"),
        (BACKUPS, "/admin/" + "a" * 5000, "/admin/home"),
    ],
)
def test_the_way_back_leads_to_a_page_of_ours_at_the_service_that_has_it(
    service: str, wanted: str | None, leads: str
) -> None:
    ways = Ways(service, WEB)
    flow = Flow.begin(KEY, ways.wanted(wanted))
    assert ways.following(flow) == leads
    assert flow_of(KEY, flow.value, flow.derived("state")) == flow


@pytest.mark.parametrize("one", ["a", "é", "\N{GRINNING FACE}", '"'])
def test_a_browser_keeps_what_is_carried_however_long_the_page(doors: Doors, one: str) -> None:
    for times, kept in ((500, True), (1900, one == "a"), (4000, False)):
        page = "/admin/" + one * times
        made = Flow.begin(KEY, page, uuid4())
        assert flow_held(KEY, made.value) == made
        assert made.following == (page if kept else None)
        assert made.session_id is not None
    browser = doors.browser()
    # The provider that is asked first need not answer: what is set is looked at.
    began(browser, f"?next=/admin/{quote(one * 1900)}")
    cookie = cookie_of(doors, browser, "oidc")
    # RFC 6265, section 6.1.
    assert len(cookie.key) + len(cookie.value) < 4000


@pytest.mark.parametrize("value", ["", "x", "x.", "x.!", "x.bnVsbA", "x.WzEsMl0", "é.WyJ4Il0"])
def test_a_flow_that_nobody_began_leads_home(value: str) -> None:
    flow = Flow(value)
    assert (flow.following, flow.session_id) in {(None, None), ("x", None)}
    assert Ways(RESTORES, WEB).following(flow) == "/admin/restore/home"
    assert Ways(RESTORES, WEB).door(flow, "x") == "/admin/restore/sign-in?because=x"
    assert flow_held(KEY, value) is None


def test_a_flow_counts_as_the_service_made_it(doors: Doors) -> None:
    session_id = uuid4()
    made = Flow.begin(KEY, "/admin/audit", session_id)
    assert flow_held(KEY, made.value) == made
    assert (made.following, made.session_id) == ("/admin/audit", session_id)
    other = Flow.begin(KEY, "/admin/audit", uuid4())
    (first, carried, tag), (_, others, _) = made.value.split("."), other.value.split(".")
    for value in (
        f"{first}.{others}.{tag}", f"{first}x.{carried}.{tag}", f"{first}.{carried}",
        f"{first}.{carried}.", f"{made.value}.{tag}", f"{made.value}x", f"{first}.{carried}.é",
    ):  # fmt: skip
        assert flow_held(KEY, value) is None
        assert flow_of(KEY, value, Flow(value).derived("state")) is None
    assert flow_held(bytes(32), made.value) is None
    # The key is the place's own, and not the one that seals its data.
    root = doors.restoring.context.root
    assert root.derived(FLOW_KEY) == root.derived(FLOW_KEY) != root.derived("another purpose")


def test_callbacks_that_lead_nowhere_hold_up_nobody_else(doors: Doors, oidc: TestProvider) -> None:
    name, guesser, browser = new_name(doors), doors.browser(), doors.browser()
    states = parse_qs(urlsplit(began(guesser)).query)["state"]
    codes = [
        guesser.get(f"/api/v1/session/oidc/callback?state={states[0]}&code=x").get_json()["code"]
        for _ in range(6)
    ]
    # From the same address.
    assert codes == ["access.sign_in_refused"] * 5 + ["access.too_many_attempts"]
    assert came_back(browser, oidc.come_back(began(browser), name)).status_code == 200
    doors.add_user(f"{name}p")
    assert browser.post(
        "/api/v1/session", json=doors.credentials(f"{name}p", PASSWORD)
    ).status_code == 201  # fmt: skip


def test_a_flow_that_a_browser_made_up_asks_the_provider_nothing_and_counts_nowhere(
    doors: Doors, oidc: TestProvider
) -> None:
    browser = doors.browser()
    began(browser)
    cookie = cookie_of(doors, browser, "oidc")
    for value in ("x", "x.bnVsbA", Flow.begin(bytes(32), "/admin/audit").value):
        browser.set_cookie(cookie.key, value)
        state = Flow(value).derived("state")
        answer = browser.get(f"/api/v1/session/oidc/callback?state={state}&code=x")
        assert answer.get_json()["code"] == "access.sign_in_refused"
        assert "began no such sign-in" in answer.get_json()["detail"]
        # Nor does it say where to go.
        answer = browser.get(
            f"/api/v1/session/oidc/callback?state={state}&code=x", headers={"Accept": "text/html"}
        )
        assert answer.headers["Location"] == "/admin/sign-in?because=access.sign_in_refused"
    assert not doors.rows("SELECT 1 FROM access.attempts")


def test_nobody_ends_the_session_of_another_whose_id_they_know(
    doors: Doors, oidc: TestProvider
) -> None:
    victim, name, owner = new_name(doors), new_name(doors), doors.browser()
    came_back(owner, oidc.come_back(began(owner), victim))
    ((session_id,),) = doors.rows(
        "SELECT session_id FROM access.sessions WHERE username = %s", victim
    )
    browser = doors.browser()
    began(browser)
    cookie = cookie_of(doors, browser, "oidc")
    carried = json.dumps(["/admin/home", str(session_id)]).encode()
    text = base64.urlsafe_b64encode(carried).decode().rstrip("=")
    random, _, tag = cookie.value.split(".")
    provider = Provider(oidc.settings(doors.restoring.context.settings.bootstrap_file.parent))
    for value in (f"{random}.{text}", f"{random}.{text}.{tag}"):
        assert Flow(value).session_id == session_id
        browser.set_cookie(cookie.key, value)
        answer = came_back(browser, oidc.come_back(provider.address(Flow(value)), name))
        assert answer.get_json()["code"] == "access.sign_in_refused"
    assert session_of(owner)["username"] == victim
    assert begins(doors, name) == 0
    ended = [e["actor"]["user"]["name"] for e in doors.audited("session.end")]
    assert f"user:{victim}" not in ended


def test_an_address_asks_the_provider_so_often_and_who_is_signed_in_goes_on(
    doors: Doors, oidc: TestProvider
) -> None:
    name, address = new_name(doors), "198.51.100.90"
    inside, guesser = doors.browser(address), doors.browser(address)
    came_back(inside, oidc.come_back(began(inside), name))
    target = oidc.come_back(began(inside, "?fresh"), name)
    exhaust(doors, address)
    # Each with a flow of its own, which nothing was counted under.
    rows = doors.rows("SELECT count(*) FROM access.attempts")
    assert {refused_with(guesser) for _ in range(3)} == {"access.too_many_attempts"}
    assert doors.rows("SELECT count(*) FROM access.attempts") == rows
    assert refused_with(doors.browser("198.51.100.91")) == "access.sign_in_refused"
    assert came_back(inside, target).status_code == 200
    doors.clock.pass_(seconds=FLOWS.longest_s)
    assert refused_with(guesser) == "access.sign_in_refused"
    # A password is counted elsewhere.
    doors.add_user(f"{name}p")
    assert doors.signed_in(f"{name}p", address)


def exhaust(doors: Doors, address: str) -> None:
    """Count at an address what one that the provider refuses counts, until it has to wait."""
    for _ in range(FLOWS.free):
        with doors.access.transaction("a test") as conn:
            tried = attempt_in_flow(Flow.begin(KEY, "/admin/home"), address)
            count_attempt(conn, tried, doors.clock.now())


def refused_with(browser: FlaskClient, query: str = "") -> str:
    """Return the code of the refusal of a code that the provider does not know."""
    state = parse_qs(urlsplit(began(browser, query)).query)["state"][0]
    answer = browser.get(f"/api/v1/session/oidc/callback?state={state}&code=x")
    return str(answer.get_json()["code"])


def moved(doors: Doors, there: FlaskClient, back: FlaskClient, *purposes: str) -> None:
    for purpose in purposes:
        cookie = cookie_of(doors, there, purpose)
        back.set_cookie(cookie.key, cookie.value)


def test_a_browser_from_which_somebody_signed_in_before_waits_for_no_guesser(
    doors: Doors, oidc: TestProvider
) -> None:
    name, other, address = new_name(doors), new_name(doors), "198.51.100.92"
    doors.add_user(f"{name}p")
    browser, _ = doors.signed_in(f"{name}p", address)
    browser.delete_cookie(cookie_of(doors, browser, "session").key)
    exhaust(doors, address)
    for person in (name, other, name):
        target = oidc.come_back(began(browser), person)
        # On the way from the provider SameSite=Strict keeps all cookies back but the flow's.
        bare = doors.browser(address)
        moved(doors, browser, bare, "oidc")
        assert came_back(bare, target).status_code == 200
        moved(doors, bare, browser, "device")
    # Who signed in there by password is known there still.
    ((known,),) = doors.rows(
        "SELECT count(*) FROM access.devices WHERE digest = sha256(%s::text::bytea)",
        cookie_of(doors, browser, "device").value,
    )
    assert known == 3
    codes = [refused_with(browser) for _ in range(6)]
    assert codes == ["access.sign_in_refused"] * 5 + ["access.too_many_attempts"]
    # A cookie that nobody was given is none.
    stranger = doors.browser(address)
    stranger.set_cookie(cookie_of(doors, browser, "device").key, "made up")
    assert refused_with(stranger) == "access.too_many_attempts"


def test_ways_of_one_session_wait_by_themselves(doors: Doors, oidc: TestProvider) -> None:
    name, browser, other = new_name(doors), doors.browser(), doors.browser()
    for one in (browser, other):
        came_back(one, oidc.come_back(began(one), name))

    codes = [refused_with(browser, "?fresh") for _ in range(6)]
    assert codes == ["access.sign_in_refused"] * 5 + ["access.too_many_attempts"]
    assert came_back(other, oidc.come_back(began(other, "?fresh"), name)).status_code == 200


def test_a_sign_in_without_the_time_of_a_proof_is_no_proof(
    doors: Doors, oidc: TestProvider
) -> None:
    name, browser = new_name(doors), doors.browser()
    assert came_back(browser, oidc.come_back(began(browser), name)).status_code == 200
    proven = browser.get("/api/v1/session").get_json()["proven_at"]
    assert datetime.fromisoformat(proven) < datetime.now(UTC)


@pytest.mark.parametrize(
    ("account", "let_in"), [("mail@example.org", True), ("unverified@example.org", False)]
)
def test_an_address_counts_when_the_provider_has_verified_it(
    doors: Doors, oidc: TestProvider, tmp_path: Path, account: str, let_in: bool
) -> None:

    provider = Provider(oidc.settings(tmp_path, claim="email"))
    flow = Flow.begin(KEY, "/admin/home")
    query = parse_qs(urlsplit(oidc.come_back(provider.address(flow), account)).query)
    assert flow_of(KEY, flow.value, query["state"][0]) == flow
    if let_in:
        assert provider.identity(flow, query["code"][0]).username == account
    else:
        with pytest.raises(SignInRefused):
            provider.identity(flow, query["code"][0])


def test_a_public_client_is_held_by_pkce_alone(oidc: TestProvider, tmp_path: Path) -> None:

    settings = oidc.settings(tmp_path, client_id="public", client_secret_file=None)
    provider, flow = Provider(settings), Flow("one browser")
    for asking, let_in in ((flow, True), (Flow("another browser"), False)):
        query = parse_qs(urlsplit(oidc.come_back(provider.address(flow), "anna")).query)
        if let_in:
            assert provider.identity(asking, query["code"][0]).username == "anna"
        else:
            with pytest.raises(SignInRefused):
                provider.identity(asking, query["code"][0])


def test_a_provider_that_is_away_or_another_is_said_to_be(
    oidc: TestProvider, tmp_path: Path
) -> None:

    for issuer in ("http://127.0.0.1:1", oidc.issuer.replace("127.0.0.1", "localhost")):
        with pytest.raises(OidcUnavailable):
            Provider(oidc.settings(tmp_path, issuer=issuer)).address(Flow("x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://example.org"}, {"issuer": "http://127.0.0.1.example.org"},
        {"scope": "profile"}, {"redirect_url": "https://example.org/"}, {"client_id": ""},
    ],
)  # fmt: skip
def test_settings_that_protect_nobody_are_refused(wrong: dict[str, str]) -> None:
    good = {
        "issuer": "https://id.example.org", "client_id": "x",
        "redirect_url": "https://example.org/api/v1/session/oidc/callback",
    }  # fmt: skip
    OidcSettings.model_validate(good)
    with pytest.raises(ValueError, match="validation error"):
        OidcSettings.model_validate(good | wrong)
