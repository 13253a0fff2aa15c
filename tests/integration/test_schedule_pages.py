"""The page of schedule and retention, form by form: nothing unseen is changed, nothing that goes is hidden."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from backup_service.configuration.schedule import Schedule
from backup_service.retention.policy import RetentionPolicy
from backup_service.web.schedule import MOST_NAMED
from tests.callers import House
from tests.plugins.postgres import TestPostgres
from tests.showing import stored_backup

SETTING = """
INSERT INTO instance.settings (name, value, updated_at, updated_by) VALUES (%s, %s, now(), 'berta')
ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value, updated_at = clock_timestamp()
"""


@pytest.fixture(scope="module")
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("schedule") / "house")
    with made.stack:
        yield made


class Admin:
    """Somebody with the page open."""

    def __init__(self, house: House) -> None:
        self._client = house.apps["backup"].test_client(use_cookies=False)
        self._headers = house.session("everything")

    def see(self) -> str:
        return text_of(self._client.get("/admin/schedule", headers=self._headers))

    def send(self, form: dict[str, str], to: str = "") -> Any:
        return self._client.post(f"/admin/schedule{to}", headers=self._headers, data=form)


def text_of(answer: Any) -> str:
    return html.unescape(answer.get_data(as_text=True))


def form_in(page: str, to: str = "") -> dict[str, str]:
    """Return the fields of one form of the page, but for its choices."""
    anchor = "#judged" if to else ""
    start = page.index(f'action="/admin/schedule{to}{anchor}"')
    part = page[start : page.index("</form>", start)]
    inputs = re.findall(r"<input[^>]*>", part)
    named = {re.search(r' name="([^"]*)"', tag): re.search(r' value="([^"]*)"', tag)
             for tag in inputs if 'type="radio"' not in tag and 'type="checkbox"' not in tag}  # fmt: skip
    return {name[1]: value[1] for name, value in named.items() if name and value}


def set_elsewhere(house: House, value: Schedule | RetentionPolicy) -> None:
    """Let the store have a setting that somebody else set meanwhile."""
    house.execute(SETTING, value.setting(), Jsonb(value.as_json()))


def test_what_was_looked_at_first_is_not_saved_over_another_change(house: House) -> None:
    admin = Admin(house)
    form = form_in(admin.see()) | {"frequency": "daily", "at": "04:00"}
    set_elsewhere(house, Schedule(enabled=True, at="05:00", jitter_s=600))
    looked = admin.send(form | {"do": "look"})
    assert looked.status_code == 200
    again = form_in(text_of(looked))
    assert again["etag"] == form["etag"], "it decides on what its reader saw"
    refused = admin.send(again | {"frequency": "daily", "do": "save"})
    page = text_of(refused)
    assert (refused.status_code, "configuration.changed" in page) == (412, True)
    assert "Load what holds now" in page
    # Once more, as it stands there: still not.
    refused = admin.send(form_in(page) | {"frequency": "daily", "do": "save"})
    assert refused.status_code == 412


def test_the_rules_that_were_looked_at_first_are_not_saved_over_another_change(
    house: House,
) -> None:
    admin = Admin(house)
    form = form_in(admin.see(), "/retention") | {"keep_last": "5"}
    set_elsewhere(house, RetentionPolicy(keep_last=50, zone="Europe/Berlin"))
    looked = admin.send(form | {"do": "look"}, "/retention")
    again = form_in(text_of(looked), "/retention")
    assert (again["etag"], again["keep_last"]) == (form["etag"], "5")
    assert admin.send(again | {"do": "save"}, "/retention").status_code == 412


def test_what_was_paused_and_where_days_begin_is_shown(house: House) -> None:
    set_elsewhere(house, Schedule(enabled=True, paused_until="2099-01-01"))  # type: ignore[arg-type]
    set_elsewhere(house, RetentionPolicy(keep_last=50, zone="Europe/Berlin"))
    page = Admin(house).see()
    assert form_in(page)["paused_until"] == "2099-01-01"
    assert form_in(page, "/retention")["zone"] == "Europe/Berlin"
    assert "Paused" in page


def test_a_setting_that_cannot_be_read_is_named(house: House) -> None:
    house.execute(SETTING, Schedule.setting(), Jsonb({"frequency": "now and then"}))
    page = Admin(house).see()
    assert "The schedule that is stored cannot be read" in page
    set_elsewhere(house, Schedule())


def test_those_that_go_are_named_whatever_stays(house: House) -> None:
    """The newest stay, and are the first of a history: what goes stood behind them."""
    set_elsewhere(house, RetentionPolicy())
    made = []
    for _ in range(MOST_NAMED + 12):
        made.append(stored_backup(house.backup))
        house.clock.pass_(hours=1)
    admin = Admin(house)
    form = form_in(admin.see(), "/retention")

    def looked(keep_last: int) -> str:
        return text_of(admin.send(form | {"keep_last": str(keep_last), "do": "look"}, "/retention"))

    few = looked(MOST_NAMED + 10)
    assert "2 backups would go, 110 backups would stay" in few
    named = re.findall(r'<a href="/admin/backups/([0-9a-f-]{36})">', few)
    assert named == made[:2], "the oldest first"
    assert "it is not among the newest that are kept" in few and "more</strong>" not in few
    many = looked(5)
    named = re.findall(r'<a href="/admin/backups/([0-9a-f-]{36})">', many)
    assert named == made[:MOST_NAMED]
    assert "And 7 backups more</strong> would go" in many
    assert re.search(r"Stays</span>\s+4 backups: no limit names it", many)
