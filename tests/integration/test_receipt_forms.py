"""The form that starts a restore, sent twice: one restore, and a receipt that watches it either way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from restore_service import events as ev
from restore_service.receipts import ReceiptHolders
from shared.archive.age.x25519 import X25519Identity
from shared.eventstore import NewEvent
from shared.messages.topics import RESTORE_EVENTS
from tests.callers import House
from tests.plugins.postgres import TestPostgres

CHECK, START = "/admin/restore/check", "/admin/restore/start"
FAULT = {"code": "internal", "message": "a test", "hint": ""}


@pytest.fixture
def house(postgres: TestPostgres, tmp_path: Path) -> Iterator[House]:
    made = House.create(postgres, tmp_path / "house")
    with made.stack:
        # The one that every house has is over: another may begin.
        over = NewEvent(ev.FAILED, {"error": FAULT}, RESTORE_EVENTS)
        made.restoring.append(made.restore_id, over)
        yield made


def entered(house: House) -> tuple[FlaskClient, str]:
    """Return a browser with a session, and the token of its forms."""
    headers = house.session("everything")
    client = house.apps["restore"].test_client()
    name, _, value = headers["Cookie"].partition("=")
    client.set_cookie(name, value)
    return client, headers["X-CSRF-Token"]


def cookie(client: FlaskClient, house: House, purpose: str) -> str | None:
    found = client.get_cookie(f"secryn-{purpose}-{house.access.instance_id.hex[:12]}")
    return None if found is None else found.value


def checked(house: House, client: FlaskClient, token: str) -> dict[str, str]:
    """Bring a file, have it checked; return the form to decide by."""
    upload_id = str(uuid4())
    client.put(
        f"/api/v1/uploads/{upload_id}", data=b"a file", headers={"X-CSRF-Token": token},
        content_type="application/octet-stream",
    )  # fmt: skip
    form = {
        "csrf_token": token, "backup_id": "upload", "upload_id": upload_id,
        "key": X25519Identity.generate().encode(),
    }  # fmt: skip
    page = client.post(CHECK, data=form)
    assert page.status_code == 200, page.get_data(as_text=True)
    fields = re.findall(
        r'type="hidden" name="([^"]+)" value="([^"]*)"', page.get_data(as_text=True)
    )
    environment = house.restoring.context.settings.place.environment
    return dict(fields) | {"reason": "twice", "confirmation": environment}


def watches(house: House, receipt: str | None) -> str | None:
    """Return which restore a receipt watches."""
    found = ReceiptHolders(house.restoring.context).authenticate(receipt or "")
    return None if found is None else found.only


def test_a_form_that_is_sent_twice_starts_one_restore_with_one_receipt(house: House) -> None:
    client, token = entered(house)
    form = checked(house, client, token)
    early = cookie(client, house, "receipt")
    assert watches(house, early) is None, "nothing was started yet"
    where = []
    for _ in range(2):
        started = client.post(START, data=form)
        assert started.status_code == 303, started.get_data(as_text=True)
        where.append(started.headers["Location"])
        restore_id = started.headers["Location"].rpartition("/")[2]
        assert watches(house, cookie(client, house, "receipt")) == restore_id
    assert where[0] == where[1]
    # Of the answer to the checks, where those to the start got lost.
    assert watches(house, early) == restore_id
    # The session is over, as it is behind a restore: the page goes on.
    client.delete_cookie(f"secryn-session-{house.access.instance_id.hex[:12]}")
    assert client.get(where[0]).status_code == 200
    assert client.get("/admin/restore/home").headers["Location"] == where[0]


def test_other_checks_take_nothing_from_who_watches_a_restore(house: House) -> None:
    client, token = entered(house)
    form = checked(house, client, token)
    started = client.post(START, data=form).headers["Location"].rpartition("/")[2]
    receipt = cookie(client, house, "receipt")
    checked(house, client, token)
    assert cookie(client, house, "receipt") == receipt
    assert watches(house, receipt) == started


def test_another_browser_has_another_secret_for_the_same_restore(house: House) -> None:
    (client, token), (other, _) = entered(house), entered(house)
    form = checked(house, client, token)
    checked(house, other, cookie_token(other))
    assert cookie(client, house, "starter") != cookie(other, house, "starter")
    client.post(START, data=form)
    assert watches(house, cookie(other, house, "receipt")) is None
    secret = (cookie(client, house, "receipt") or "").rpartition(".")[2]
    with house.restoring.context.transaction("a test") as conn:
        events = conn.execute("SELECT data::text FROM restore.events").fetchall()
    for hidden in (secret, cookie(client, house, "starter")):
        assert hidden and not [row for row in events if hidden in row[0]]


def cookie_token(client: FlaskClient) -> str:
    page = client.get("/admin/restore/").get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found
    return found[1]


def test_the_forms_of_a_restore_name_their_command(house: House) -> None:
    """What is drawn anew at each answer would be another command, and another restore."""
    client, token = entered(house)
    started = client.post(START, data=checked(house, client, token)).headers["Location"]
    restore_id = started.rpartition("/")[2]
    house.restoring.append(
        restore_id,
        NewEvent(ev.CUT_OVER, {"outcome": {"epoch": 2, "kept_as": "instance_before_x"}}),
        NewEvent(ev.COMPLETED, {"duration_s": 1.0, "voided": None}, RESTORE_EVENTS),
    )
    page = client.get(started).get_data(as_text=True)
    (command_id,) = re.findall(r'name="command_id" value="([0-9a-f-]{36})"', page)
    form = {"csrf_token": token, "command_id": command_id, "reason": "", "confirmation": "wrong"}
    again = client.post(f"{started}/undo", data=form).get_data(as_text=True)
    assert f'name="command_id" value="{command_id}"' in again
