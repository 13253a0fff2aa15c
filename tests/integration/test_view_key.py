"""The one-time key: one viewer, once; a dropped answer loses nothing; afterwards nothing opens it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from backup_service import events as ev
from deploy.embedded.addresses import Address
from deploy.embedded.folder import open_state
from deploy.embedded.parts import service_fault
from deploy.embedded.process import free_ports
from shared.archive.age import HybridIdentity, X25519Identity, open_sealed, recipient_fingerprint
from shared.archive.keyfile import KeyFile
from shared.archive.reader import open_archive
from shared.client import ServiceConnection
from shared.errors import (
    ArchiveError,
    ConflictError,
    KeyAlreadyViewed,
    KeyNotReady,
    SecrynError,
    UsageError,
)
from shared.messages.topics import AUDIT, BACKUP_EVENTS
from shared.secretfiles import read_secret_file
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def created(live: Live) -> Json:
    asked = live.services.backups.create("a key waits")
    backup = live.services.backups.wait(asked["backup_id"])
    assert backup["state"] == "created"
    return plain(backup)


def ask(live: Live, backup: Json, request: Json) -> Json:
    path = f"/api/v1/backups/{backup['backup_id']}/key"
    return live.services.backups.connection.call("POST", path, request)


def request_of(identity: HybridIdentity) -> Json:
    return {"request_id": str(uuid4()), "recipient": identity.to_recipient().encode()}


@contextmanager
def second_replica(live: Live) -> Iterator[ServiceConnection]:
    """Run another backup_service on the same place; return a connection to it."""
    state = open_state(live.stack.state)
    (port,) = free_ports(1)
    plain = {name: text for name, text in os.environ.items() if not name.startswith("SECRYN_")}
    with (state.root / "log" / "second.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "backup_service", "--config", str(state.config("backup"))],
            stdout=log,
            stderr=log,
            env=plain | {"SECRYN_HTTP__PORT": str(port)},
        )
    token = read_secret_file(state.token).decode("ascii")
    try:
        eventually(
            lambda: service_fault(Address(port), token) is None, "the second replica is ready", 60
        )
        with ServiceConnection(f"http://127.0.0.1:{port}", token) as connection:
            yield connection
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_of_fifty_callers_at_once_over_two_replicas_one_gets_the_key(live: Live) -> None:
    backup = created(live)
    identity = HybridIdentity.generate()
    path = f"/api/v1/backups/{backup['backup_id']}/key"
    with second_replica(live) as second, ThreadPoolExecutor(50) as pool:
        replicas = (live.services.backups.connection, second)

        def view(number: int) -> Json | KeyAlreadyViewed:
            try:
                return replicas[number % 2].call("POST", path, request_of(identity), timeout_s=60)
            except KeyAlreadyViewed as error:
                return error

        answers = list(pool.map(view, range(50)))
        waiting = second.call("GET", "/api/v1/keys")
    got = [answer for answer in answers if isinstance(answer, dict)]
    told = [answer for answer in answers if isinstance(answer, KeyAlreadyViewed)]
    assert (len(got), len(told)) == (1, 49)
    assert all("by operator at 20" in error.message for error in told)
    text = open_sealed(bytes.fromhex(got[0]["sealed_key"]), [identity], 65536).decode()
    assert KeyFile.parse(text).backup_id == backup["backup_id"]
    assert len(live.events_about(BACKUP_EVENTS, ev.KEY_VIEWED, backup["backup_id"])) == 1
    assert backup["backup_id"] not in {key["backup_id"] for key in waiting["waiting"]}


def test_the_same_request_gets_the_same_key_again_and_no_other_does(live: Live) -> None:
    backup = created(live)
    request = request_of(HybridIdentity.generate())
    first = ask(live, backup, request)
    assert ask(live, backup, request) == first
    with pytest.raises(KeyAlreadyViewed):
        ask(live, backup, request | {"request_id": str(uuid4())})
    other = HybridIdentity.generate().to_recipient().encode()
    with pytest.raises(KeyAlreadyViewed):
        ask(live, backup, request | {"recipient": other})
    assert len(live.events_about(BACKUP_EVENTS, ev.KEY_VIEWED, backup["backup_id"])) == 1


def test_the_key_waits_through_a_kill_and_is_viewed_after_it(live: Live) -> None:
    backup = created(live)
    live.stack.kill("backup")
    live.stack.wait_healthy()
    assert KeyFile.parse(live.services.backups.view_key(backup["backup_id"])).sha256


def test_after_the_viewing_nothing_on_the_machine_opens_the_backup(live: Live) -> None:
    backup = created(live)
    kek = live.stack.state / "keks" / f"{backup['backup_id']}.kek"
    waiting = bytes.fromhex(kek.read_text())
    assert kek.stat().st_mode & 0o777 == 0o600
    key = live.services.backups.view_key(backup["backup_id"])
    assert not kek.exists()
    secret = next(line for line in key.splitlines() if line.startswith("AGE-SECRET-KEY"))
    with live.admin() as conn:
        conn.execute("CHECKPOINT")
    for path in live.stack.state.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert secret.encode() not in content, path
            assert waiting not in content, path
            assert waiting.hex().encode() not in content, path


def test_the_key_is_in_no_event_no_audit_entry_and_no_log(live: Live) -> None:
    backup = created(live)
    request = request_of(HybridIdentity.generate())
    answer = ask(live, backup, request)
    told = b"".join(
        event.data for topic in (BACKUP_EVENTS, AUDIT) for event in live.messages(topic)
    )
    logs = b"".join(path.read_bytes() for path in (live.stack.state / "log").iterdir())
    for secret in (b"AGE-SECRET-KEY", answer["sealed_key"][:64].encode()):
        assert secret not in told
        assert secret not in logs


def test_a_key_of_no_backup_or_of_one_that_failed_is_a_clear_refusal(live: Live) -> None:
    with pytest.raises(SecrynError) as refused:
        live.services.backups.view_key(str(uuid4()))
    assert refused.value.code == "backup.not_found"
    asked = live.services.backups.create("to be cancelled early")["backup_id"]
    try:
        live.services.backups.view_key(asked)
    except KeyNotReady as error:
        assert asked in error.message
    live.services.backups.wait(asked)


@pytest.mark.parametrize("recipient", ["", "age1nothing", "x" * 9000])
def test_a_malformed_view_takes_no_key(live: Live, recipient: str) -> None:
    backup = created(live)
    with pytest.raises(UsageError):
        ask(live, backup, {"request_id": str(uuid4()), "recipient": recipient})
    assert live.services.backups.get(backup["backup_id"])["key_state"] == "waiting"


def test_with_own_recipients_no_key_waits_and_each_of_them_opens_it(
    live: Live, tmp_path: Path
) -> None:
    owners = [X25519Identity.generate(), X25519Identity.generate()]
    asked = live.services.backups.create(
        "own", recipients=[owner.to_recipient().encode() for owner in owners]
    )
    backup = live.services.backups.wait(asked["backup_id"])
    assert (backup["state"], backup["key_state"]) == ("created", "own_recipient")
    fingerprints = [recipient_fingerprint(owner.to_recipient().encode()) for owner in owners]
    assert backup["recipients"] == fingerprints

    def told() -> bytes:
        return b"".join(e.data for topic in (BACKUP_EVENTS, AUDIT) for e in live.messages(topic))

    eventually(lambda: fingerprints[0].encode() in told(), "it is on the log")
    assert owners[0].to_recipient().encode().encode() not in told()
    with pytest.raises(ConflictError, match="recipients of your own"):
        live.services.backups.view_key(backup["backup_id"])
    file = live.archive(plain(backup), tmp_path)
    for owner in owners:
        with file.open("rb") as source:
            archive = open_archive(source, [owner])
            rows = sum(len(part.copy) > 0 for part in archive.parts())
        assert rows
        assert archive.manifest.digest == backup["digest"]


def test_post_quantum_recipients_are_not_mixed_with_others(live: Live) -> None:
    mixed = [
        X25519Identity.generate().to_recipient().encode(),
        HybridIdentity.generate().to_recipient().encode(),
    ]
    with pytest.raises(UsageError):
        live.services.backups.create("mixed", recipients=mixed)


def test_key_view_and_key_check_on_the_command_line(live: Live, tmp_path: Path) -> None:
    backup, other = created(live), created(live)
    document = json.loads(live.stack.secryn("key", "view", backup["backup_id"]).stdout)
    key_file = tmp_path / "key.txt"
    key_file.write_text(document["key"])
    good = live.archive(backup, tmp_path)
    wrong = live.archive(other, tmp_path)
    assert check(key_file, good).returncode == 0
    refused = check(key_file, wrong)
    assert refused.returncode == ArchiveError.exit_code
    assert json.loads(refused.stdout)["error"]["code"].startswith("archive.")


def check(key_file: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """Run ``secryn key check`` as a person without any stack does."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "key", "check", str(key_file), str(file), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_waiting_keys_go_into_one_folder_of_closed_files_once(
    live: Live, tmp_path: Path
) -> None:
    folder = tmp_path / "keys"
    some = [created(live), created(live)]
    listed = json.loads(live.stack.secryn("key", "list").stdout)
    assert {one["backup_id"] for one in some} <= {key["backup_id"] for key in listed["waiting"]}
    note = next(n for n in live.stack.status()["notes"] if "to be viewed" in n)
    assert listed["next_expiry"] in note
    arguments = ("key", "view", "--all-waiting", "--folder", str(folder))
    report = json.loads(live.stack.secryn(*arguments).stdout)
    assert report["written"] == listed["count"]
    for one in some:
        file = folder / f"{one['backup_id']}.key"
        assert file.stat().st_mode & 0o777 == 0o600
        assert check(file, live.archive(one, tmp_path)).returncode == 0
    assert json.loads(live.stack.secryn(*arguments).stdout)["keys"] == []
    assert live.stack.status()["keys"]["count"] == 0
    metrics = bytearray()
    live.services.backups.connection.download("/metrics", metrics.extend)
    assert b"secryn_backup_keys_waiting 0.0" in metrics
    assert len(list(folder.iterdir())) == report["written"]


def test_a_new_backups_key_goes_into_a_file_where_there_is_one_and_it_can_be_written(
    live: Live, tmp_path: Path
) -> None:
    file = tmp_path / "backup.key"
    create = ("backup", "create", "--wait", "--key-file")
    made = json.loads(live.stack.secryn(*create, str(file)).stdout)
    assert KeyFile.parse(file.read_text()).backup_id == made["backup_id"]
    assert (made["key_file"], file.stat().st_mode & 0o777) == (str(file), 0o600)
    assert list(tmp_path.iterdir()) == [file]
    before = live.services.backups.list()["backups"][0]["backup_id"]
    recipient = X25519Identity(bytes(range(32))).to_recipient().encode()
    flipped = recipient.replace("age1", "age1q", 1)[:-1]
    for refused in (
        (*create, str(file)),
        (*create, str(tmp_path / "nowhere" / "backup.key")),
        (*create, str(tmp_path / "other.key"), "--recipient", recipient),
        ("backup", "create", "--recipient", flipped),
    ):
        done = live.stack.secryn(*refused, check=False)
        assert done.returncode == UsageError.exit_code, refused
    assert live.services.backups.list()["backups"][0]["backup_id"] == before
    assert list(tmp_path.iterdir()) == [file]


def test_one_key_goes_into_a_file(live: Live, tmp_path: Path) -> None:
    backup, file = created(live), tmp_path / "backup.key"
    arguments = ("key", "view", backup["backup_id"], "--key-file", str(file))
    live.stack.secryn(*arguments)
    assert KeyFile.parse(file.read_text()).environment == live.services.environment
    refused = live.stack.secryn("key", "view", "--all-waiting", check=False)
    assert refused.returncode == UsageError.exit_code
