"""Who started a restore is not locked out by it, and who has nobody yet can restore once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from shared.client import RestoreClient, ServiceConnection
from shared.client.restores import new_receipt_secret, receipt_of
from shared.errors import AccessError, BootstrapSpent, NotAuthenticated
from shared.secretfiles import read_secret_file, write_secret_file
from tests.documents import plain
from tests.plugins.live import Json, Live
from tests.plugins.stack import StackUnderTest


def started(live: Live) -> tuple[Json, str]:
    """Restore with a receipt; return how it ended, and the receipt."""
    backup, key = live.backup()
    live.add_project(f"unwanted {new_receipt_secret()}")
    secret = new_receipt_secret()
    asked = live.start(key, backup_id=backup["backup_id"], receipt_secret=secret)
    ended = live.services.restores.wait(asked["restore_id"])
    return plain(ended), receipt_of(asked["restore_id"], secret)


def test_a_receipt_watches_and_undoes_its_own_restore_and_nothing_else(live: Live) -> None:
    first, first_receipt = started(live)
    second, receipt = started(live)
    with live.services.restores.with_receipt(receipt).connection as connection:
        holder = RestoreClient(connection)
        assert holder.get(second["restore_id"])["state"] == "restored"
        wanted = {"target_instance_id": live.instance_id, "reason": "a test"}
        forbidden_calls: list[Callable[[], object]] = [
            lambda: holder.get(first["restore_id"]),
            holder.list,
            holder.space,
            lambda: holder.cancel(second["restore_id"]),
            lambda: holder.undo(**wanted),
            lambda: holder.undo(**wanted, restore_id=first["restore_id"]),
            lambda: holder.start(
                target_instance_id=live.instance_id, key_file_text="x", reason="no", backup_id="y"
            ),
        ]
        for forbidden in forbidden_calls:
            with pytest.raises(AccessError):
                forbidden()
        secret = new_receipt_secret()
        undo = holder.undo(**wanted, restore_id=second["restore_id"], receipt_secret=secret)
    own = live.services.restores.with_receipt(receipt_of(undo["restore_id"], secret))
    with own.connection:
        assert own.wait(undo["restore_id"])["state"] == "restored"
    for wrong in (receipt[:-1], first_receipt + "x", receipt.replace("receipt.", "receipt.x")):
        with (
            live.services.restores.with_receipt(wrong).connection as connection,
            pytest.raises(NotAuthenticated),
        ):
            RestoreClient(connection).get(second["restore_id"])


def test_a_receipt_is_in_no_event_and_no_answer(live: Live) -> None:
    ended, receipt = started(live)
    secret = receipt.rsplit(".", 1)[1]
    for topic in ("restore.events", "audit"):
        assert not [m for m in live.messages(topic) if secret.encode() in m.data]
    assert secret not in json.dumps(ended)
    assert "receipt_sha256" not in ended


def test_the_command_line_keeps_the_receipt_in_a_closed_file_and_undoes_with_it(
    live: Live, tmp_path: Path
) -> None:
    backup, key = live.backup()
    before = live.digest()
    key_file = tmp_path / "key"
    key_file.write_text(key)
    live.add_project("replaced")
    replaced = live.digest()
    run = ("restore", "run", "--backup", backup["backup_id"], "--key-file", str(key_file))
    done = live.stack.secryn(*run, "--instance", live.instance_id, "--yes")
    file = Path(json.loads(done.stdout)["receipt_file"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert live.digest() == before
    undo = ("restore", "undo", "--instance", live.instance_id, "--yes")
    live.stack.secryn(*undo, "--token-file", str(file))
    assert live.digest() == replaced


def test_a_restore_ends_every_session_of_both_services_and_no_token(
    live: Live, tmp_path: Path
) -> None:
    password, token_file = tmp_path / "password", tmp_path / "token"
    write_secret_file(password, b"a long enough password\n")
    live.stack.secryn("admin", "create", "adele", "--password-file", str(password))
    make = ("token", "create", "nightly", "--permission", "read", "--to", str(token_file))
    assert "token" not in json.loads(live.stack.secryn(*make).stdout)
    assert token_file.stat().st_mode & 0o777 == 0o600
    backup, key = live.backup()
    found = live.stack.status()
    urls = [found["backup_url"] + "/api/v1/backups", found["restore_url"] + "/api/v1/restores"]
    with httpx.Client(trust_env=False) as browser:
        body = {"username": "adele", "password": "a long enough password"}
        session = browser.post(found["restore_url"] + "/api/v1/session", json=body)
        assert session.status_code == 201
        assert [browser.get(url).status_code for url in urls] == [200, 200]
        assert live.restore(backup, key)["state"] == "restored"
        ended = [browser.get(url).json() for url in urls]
        assert [answer["code"] for answer in ended] == ["access.session_ended"] * 2
        assert "restored" in ended[0]["detail"]
        # She came back with the backup, and signs in again.
        again = browser.post(found["backup_url"] + "/api/v1/session", json=body)
        assert again.status_code == 201
    token = token_file.read_text().strip()
    with ServiceConnection(found["restore_url"], token) as connection:
        RestoreClient(connection).list()
    logs = "".join(p.read_text() for p in (live.stack.state / "log").rglob("*") if p.is_file())
    assert "service.started" in logs
    for secret in (token, token.rpartition(".")[2], "a long enough password"):
        assert secret not in logs


def test_the_bootstrap_credential_restores_where_nobody_is_and_is_spent_then(
    given_stack: Callable[..., StackUnderTest], live: Live, tmp_path: Path
) -> None:
    backup, key = live.backup()
    file, key_file = live.archive(backup, tmp_path), tmp_path / "key"
    key_file.write_text(key)
    stack = given_stack()
    status = stack.up()
    token_file = stack.state / "bootstrap"
    assert token_file.stat().st_mode & 0o777 == 0o600
    token = read_secret_file(token_file).decode().splitlines()[0]
    run = (
        *("restore", "run", "--file", str(file), "--instance", status["instance_id"], "--yes"),
        *("--source-instance", live.instance_id, "--token-file", str(token_file), "--key-file"),
    )
    # A mistyped key does not spend it.
    wrong = tmp_path / "wrong"
    wrong.write_text(live.backup()[1])
    assert stack.refusal(*run, str(wrong))["code"] == "archive.wrong_key_or_header"
    done = stack.secryn(*run, str(key_file))
    assert json.loads(done.stdout)["state"] == "restored"
    with ServiceConnection(status["restore_url"], token) as connection:
        with pytest.raises(BootstrapSpent):
            RestoreClient(connection).list()
        stack.secryn("bootstrap")
        again = read_secret_file(token_file).decode().splitlines()[0]
    with (
        ServiceConnection(status["restore_url"], again) as connection,
        pytest.raises(BootstrapSpent) as spent,
    ):
        RestoreClient(connection).list()
    assert "users" in spent.value.message
