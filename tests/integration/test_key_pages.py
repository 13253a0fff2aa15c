"""The key's page, form by form: whatever becomes of an answer, the key is not lost, and seen by one."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from serving.access.cookies import CSRF_HEADER
from tests.callers import House
from tests.keeping import KEY
from tests.plugins.postgres import TestPostgres
from tests.showing import waiting_backup

COOKIE = "secryn-viewing"
WINDOW_S = 600


@pytest.fixture(scope="module")
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("key") / "house")
    with made.stack:
        yield made


class Window:
    """A browser's window: its cookies, and the session that it is in."""

    def __init__(self, house: House, name: str = "everything") -> None:
        self._house = house
        self._client = house.apps["backup"].test_client()
        self.sign_in(name)

    def sign_in(self, name: str, age_s: int = 0) -> None:
        """Begin another session in the same browser; the proof is so old."""
        headers = self._house.session(name, age_s=age_s)
        self._session, _, value = headers["Cookie"].partition("=")
        self._client.set_cookie(self._session, value)
        self._csrf = {CSRF_HEADER: headers[CSRF_HEADER]}

    def get(self, backup_id: str, query: str = "") -> Any:
        return self._client.get(f"/admin/backups/{backup_id}/key{query}")

    def post(self, backup_id: str, then: str = "", **form: str) -> Any:
        path = f"/admin/backups/{backup_id}/key{then}"
        return self._client.post(path, headers=self._csrf, data=form)

    def post_unheard(self, backup_id: str) -> Any:
        """Send the form as it is; its answer, a cookie too, never reaches the browser."""
        path = f"/admin/backups/{backup_id}/key"
        client = self._house.apps["backup"].test_client()
        for name, where in ((self._session, "/"), (COOKIE, path)):
            kept = self._client.get_cookie(name, path=where)
            assert kept is not None
            client.set_cookie(name, kept.value)
        return client.post(path, headers=self._csrf)

    def sees(self, backup_id: str) -> bool:
        return KEY in text_of(self.get(backup_id))


def text_of(answer: Any) -> str:
    return html.unescape(answer.get_data(as_text=True))


def state_of(house: House, backup_id: str) -> str:
    with house.backup.pool.connection() as conn:
        return str(house.backup.keys.facts(conn, UUID(backup_id))["key_state"])


def test_a_second_click_whose_first_answer_was_lost_shows_the_key(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    asked = window.get(backup_id)
    assert f"{COOKIE}=" in asked.headers["Set-Cookie"], "before anything is taken"
    assert state_of(house, backup_id) == "waiting"
    lost, again = window.post_unheard(backup_id), window.post(backup_id)
    assert (lost.status_code, again.status_code) == (303, 303)
    assert window.sees(backup_id)


def test_without_the_cookie_nothing_is_taken_and_the_way_leads_back(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    answer = window.post(backup_id)
    assert answer.headers["Location"].endswith(f"/backups/{backup_id}/key?because=cookie")
    assert state_of(house, backup_id) == "waiting"
    page = window.get(backup_id, "?because=cookie")
    assert "Nothing was shown yet, and nothing is lost" in text_of(page)
    assert window.post(backup_id).headers["Location"].endswith("/key")
    assert window.sees(backup_id)


def test_two_windows_of_one_browser_are_one_viewing(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    first = window.get(backup_id).headers["Set-Cookie"].split(";")[0]
    assert window.get(backup_id).headers["Set-Cookie"].split(";")[0] == first


def test_a_later_session_of_the_same_user_sees_it_again_without_a_new_proof(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.get(backup_id)
    window.post(backup_id)
    house.clock.pass_(seconds=WINDOW_S - 1)
    window.sign_in("everything", age_s=WINDOW_S)
    assert window.sees(backup_id)
    assert window.post(backup_id, "/file").get_data(as_text=True) == KEY
    assert window.post(backup_id).headers["Location"].endswith("/key"), "a repeat, and no new one"
    house.clock.pass_(seconds=1)
    page = text_of(window.get(backup_id))
    assert "It was shown once and is kept nowhere" in page and KEY not in page


def test_the_first_viewing_takes_a_fresh_proof(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.sign_in("everything", age_s=301)
    window.get(backup_id)
    assert "/prove?next=" in window.post(backup_id).headers["Location"]
    assert state_of(house, backup_id) == "waiting"


def test_another_user_of_the_same_browser_and_another_browser_do_not_see_it(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.get(backup_id)
    window.post(backup_id)
    assert not Window(house).sees(backup_id)
    window.sign_in("view_key", age_s=301)
    assert not window.sees(backup_id)
    window.sign_in("view_key")
    assert window.post(backup_id).status_code == 409
    window.sign_in("everything")
    assert window.sees(backup_id)


def test_the_time_that_is_told_is_what_is_left_of_the_window(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.get(backup_id)
    window.post(backup_id)
    house.clock.pass_(seconds=470)
    page = text_of(window.get(backup_id))
    assert 'data-seconds="130"' in page
    path = f"/admin/backups/{backup_id}/key"
    assert f'<noscript><meta http-equiv="refresh" content="130; url={path}"></noscript>' in page
    assert "for 2 minutes more at most" in page


def test_without_the_tick_nothing_is_forgotten(house: House) -> None:
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.get(backup_id)
    window.post(backup_id)
    for form in ({}, {"stored": ""}):
        answer = window.post(backup_id, "/stored", **form)
        assert answer.headers["Location"].endswith("/key?because=tick")
    page = text_of(window.get(backup_id, "?because=tick"))
    assert KEY in page and "Nothing was forgotten" in page
    answer = window.post(backup_id, "/stored", stored="on")
    assert answer.headers["Location"].endswith(f"/backups/{backup_id}")
    assert not window.sees(backup_id)


def test_a_look_at_the_page_of_a_viewed_key_is_no_attempt(house: House) -> None:
    """Every attempt is in the trail; that somebody came by is none."""
    backup_id, window = waiting_backup(house.backup), Window(house)
    window.get(backup_id)
    window.post(backup_id)
    house.clock.pass_(seconds=WINDOW_S)
    window.get(backup_id)
    with house.backup.pool.connection() as conn:
        trail = house.backup.store.read_stream(conn, "audit")
    about = [e.data for e in trail if e.data["resources"][0]["uid"] == backup_id]
    assert [(e["api"]["operation"], e["status"]) for e in about] == [("key.view", "Success")]
