"""What a browser carries on the way to a provider and back: who made it, and how often it counts."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from serving.access.attempts import FLOWS, attempt_in_flow, count_attempt
from serving.access.flow import FLOW_KEY, Flow, flow_held, flow_of
from serving.access.oidc_routes import BACKUPS, RESTORES, Ways
from serving.access.provider import Provider
from tests.accessing import PASSWORD, Doors
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
