"""Sign-in by a real OpenID Connect provider: out, back, and everything that does not fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from flask import Flask, g

from serving.access.flow import Flow, flow_of
from serving.access.oidc_routes import BACKUPS, RESTORES, Ways, create_oidc_routes
from serving.access.provider import Provider
from serving.access.settings import OidcSettings
from shared.errors import OidcUnavailable, SignInRefused
from tests.accessing import Doors
from tests.plugins.oidc import TestProvider
from tests.plugins.postgres import TestPostgres
from tests.providing import (
    KEY,
    WEB,
    as_new,
    began,
    begins,
    came_back,
    cookie_of,
    doors_with_provider,
    new_name,
    session_of,
)


@pytest.fixture(scope="module")
def shared(
    postgres: TestPostgres, oidc: TestProvider, tmp_path_factory: pytest.TempPathFactory
) -> Doors:
    return doors_with_provider(postgres, oidc, tmp_path_factory.mktemp("doors"))


@pytest.fixture
def doors(shared: Doors) -> Doors:
    as_new(shared)
    return shared


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
