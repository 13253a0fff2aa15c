"""Sign-in by a real OpenID Connect provider: out, back, and everything that does not fit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from serving.access.oidc_routes import create_oidc_routes
from serving.access.provider import Flow, Provider, flow_of
from serving.access.settings import OidcSettings
from shared.errors import OidcUnavailable, SignInRefused
from tests.accessing import Doors
from tests.plugins.oidc import TestProvider
from tests.plugins.postgres import TestPostgres


@pytest.fixture(scope="module")
def shared(
    postgres: TestPostgres, oidc: TestProvider, tmp_path_factory: pytest.TempPathFactory
) -> Doors:
    folder = tmp_path_factory.mktemp("doors")
    doors = Doors.create(postgres, folder)
    provider = Provider(oidc.settings(folder))
    doors.app.register_blueprint(create_oidc_routes(doors.access, provider, lambda _: None))
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
    flow = Flow("a value of this browser")
    query = parse_qs(urlsplit(oidc.come_back(provider.address(flow), account)).query)
    assert flow_of(flow.value, query["state"][0]) == flow
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
