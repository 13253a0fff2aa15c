"""What is refused touches nothing; what fails behind the fence leaves the instance as it was."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from restore_service import events as ev
from restore_service.staging import staging_name
from shared.archive.age import EncryptWriter, HybridIdentity
from shared.archive.keyfile import KeyFile
from shared.database import Lock, try_lock, unlock
from shared.errors import (
    AnotherInstance,
    ArchiveAltered,
    ArchiveDamaged,
    BackupNotFound,
    DependentObjects,
    KeyMalformed,
    NotAnAgeFile,
    PartialScope,
    SecrynError,
    SignerUntrusted,
    TargetMismatch,
    WrongKeyOrHeader,
)
from shared.instance.events import RestoreAborted, RestoreStarted
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


class Given:
    """One backup of a module's stack, as a file and its key."""

    def __init__(self, backup: Json, key: str, file: Path) -> None:
        self.backup, self.key, self.file = backup, key, file
        self.data = file.read_bytes()

    @property
    def bare_key(self) -> str:
        """The identity alone, without the comment lines that name the file."""
        return next(line for line in self.key.splitlines() if not line.startswith("#"))


@pytest.fixture(scope="module")
def given(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Given:
    backup, key = live.backup()
    return Given(backup, key, live.archive(backup, tmp_path_factory.mktemp("given")))


@pytest.fixture
def unchanged(live: Live, given: Given) -> Iterator[None]:
    """Whatever the test tries: the instance, its schemas and its place on the log stay."""
    before = live.state()
    yield
    assert live.state() == before
    written = live.messages(INSTANCE_EVENTS, before[2].position)
    assert not [event for event in written if event.type == RestoreStarted.TYPE]


def refused(live: Live, data: bytes, key: str, folder: Path, **named: Any) -> Json:
    """Upload ``data``, restore it, and return the error that ended it."""
    file = folder / f"{uuid4()}.age"
    file.write_bytes(data)
    ended = live.restore_file(file, key, **named)
    assert ended["state"] == "failed", ended
    error: Json = ended["error"]
    assert error["hint"]
    return error


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0x01
    return bytes(changed)


@pytest.mark.usefixtures("unchanged")
def test_another_key_does_not_open_it(live: Live, given: Given, tmp_path: Path) -> None:
    other = HybridIdentity.generate().encode()
    assert refused(live, given.data, other, tmp_path)["code"] == WrongKeyOrHeader.code


@pytest.mark.usefixtures("unchanged")
def test_a_key_file_of_another_backup_is_told_from_a_wrong_key(
    live: Live, given: Given, tmp_path: Path
) -> None:
    _, other = live.backup()
    assert refused(live, given.data, other, tmp_path)["code"] in {
        WrongKeyOrHeader.code,
        ArchiveAltered.code,
    }


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", b"age-encryption.org/v2\n"])
def test_what_is_no_age_file_is_named(
    live: Live, given: Given, data: bytes, tmp_path: Path
) -> None:
    error = refused(live, data, given.key, tmp_path)
    assert error["code"] in {NotAnAgeFile.code, "archive.header_invalid"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.999])
def test_a_truncated_file_is_refused(live: Live, given: Given, kept: float, tmp_path: Path) -> None:
    cut = given.data[: int(len(given.data) * kept)]
    code = refused(live, cut, given.bare_key, tmp_path)["code"]
    assert code in {ArchiveDamaged.code, "archive.truncated"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("at", [0.3, 0.6, 0.99])
def test_a_flipped_bit_is_refused(live: Live, given: Given, at: float, tmp_path: Path) -> None:
    data = flipped(given.data, int(len(given.data) * at))
    assert refused(live, data, given.bare_key, tmp_path)["code"] == ArchiveDamaged.code


@pytest.mark.usefixtures("unchanged")
def test_a_flipped_bit_in_the_storage_is_refused(live: Live) -> None:
    backup, key = live.backup()
    stored = live.stack.state / "backups" / f"{backup['backup_id']}.age"
    stored.write_bytes(flipped(stored.read_bytes(), stored.stat().st_size // 2))
    ended = live.restore(backup, key)
    assert (ended["state"], ended["error"]["code"]) == ("failed", ArchiveDamaged.code)


@pytest.mark.usefixtures("unchanged")
def test_an_age_file_with_something_else_in_it_is_refused(
    live: Live, given: Given, tmp_path: Path
) -> None:
    identity = HybridIdentity.generate()
    target = io.BytesIO()
    writer = EncryptWriter(target, [identity.to_recipient()])
    writer.write(b"not a tar" * 1000)
    writer.close()
    error = refused(live, target.getvalue(), identity.encode(), tmp_path)
    assert error["code"] == "archive.malformed"


@pytest.mark.usefixtures("unchanged")
def test_an_unknown_signer_is_refused_until_somebody_vouches(
    live: Live, given: Given, tmp_path: Path
) -> None:
    signers = live.stack.state / "keys" / "trusted-signers.toml"
    kept = signers.read_bytes()
    signers.write_bytes(b"")
    try:
        _restart(live)
        error = refused(live, given.data, given.bare_key, tmp_path)
        assert error["code"] == SignerUntrusted.code
        wrong = refused(live, given.data, given.bare_key, tmp_path, trust_signer="SHA256:somebody")
        assert wrong["code"] == SignerUntrusted.code
    finally:
        signers.write_bytes(kept)
        _restart(live)


def _restart(live: Live) -> None:
    live.stack.kill("restore")
    live.stack.wait_healthy()


@pytest.mark.usefixtures("unchanged")
def test_another_instances_backup_needs_its_id(live: Live, given: Given, tmp_path: Path) -> None:
    error = refused(live, given.data, given.key, tmp_path, source_instance_id=str(uuid4()))
    assert error["code"] == AnotherInstance.code


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target_instance_id": str(uuid4())}, TargetMismatch),
        ({"backup_id": str(uuid4())}, BackupNotFound),
    ],
)
def test_the_wrong_target_or_no_backup_is_refused_at_once(
    live: Live, given: Given, change: Json, expected: type[SecrynError]
) -> None:
    with pytest.raises(expected):
        live.start(given.key, **({"backup_id": given.backup["backup_id"]} | change))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("key", ["", "AGE-SECRET-KEY-PQ-1NOTHING", "# only a comment\n"])
def test_what_is_no_key_is_refused_and_not_repeated(live: Live, given: Given, key: str) -> None:
    with pytest.raises(KeyMalformed) as error:
        live.start(key, backup_id=given.backup["backup_id"])
    assert "NOTHING" not in str(error.value)


@pytest.mark.usefixtures("unchanged")
def test_a_part_of_the_instance_is_refused(live: Live, given: Given) -> None:
    body = {"command_id": str(uuid4()), "vaults": ["one"]}
    with pytest.raises(PartialScope):
        live.services.restores.connection.call("POST", "/api/v1/restores", body)


@pytest.mark.usefixtures("unchanged")
def test_what_depends_on_the_store_from_outside_is_named(live: Live, given: Given) -> None:
    """Of every kind: tests/integration/test_restore_rights.py."""
    with live.admin() as conn:
        conn.execute("CREATE VIEW public.outside AS SELECT id FROM instance.projects")
        try:
            ended = live.restore(given.backup, given.key)
        finally:
            conn.execute("DROP VIEW public.outside")
    assert ended["error"]["code"] == DependentObjects.code
    assert "outside" in ended["error"]["message"]


def test_a_key_is_nowhere_after_a_refused_or_a_finished_restore(
    live: Live, given: Given, tmp_path: Path
) -> None:
    refused(live, flipped(given.data, len(given.data) // 2), given.key, tmp_path)
    assert live.restore(given.backup, given.key)["state"] == "restored"
    secret = KeyFile.parse(given.key).identity.encode().encode()
    with live.admin() as conn:
        conn.execute("CHECKPOINT")
    for path in live.stack.state.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path


class TestAbort:
    """A failure behind the fence: Aborted, and the events behind the fence count again."""

    def test_the_instance_stays_and_the_fence_falls(self, live: Live) -> None:
        backup, key = live.backup()
        live.add_project(f"kept-{uuid4().hex[:6]}")
        digest, epoch, schemas = live.digest(), live.position().epoch, live.state()[1]
        with live.admin() as conn:
            # As a running backup does: the restore has loaded everything, and waits.
            assert try_lock(conn, Lock.GUARD, shared=True)
            asked = live.start(key, backup_id=backup["backup_id"])["restore_id"]
            eventually(
                lambda: (
                    live.services.restores.get(asked).get("step") == "waiting for a running backup"
                ),
                "everything is loaded",
            )
            assert not live.position().fenced
            conn.execute(f"DROP SCHEMA {staging_name(asked)} CASCADE".encode())
            unlock(conn, Lock.GUARD, shared=True)
        ended = live.services.restores.wait(asked)
        assert ended["state"] == "aborted", ended
        assert plain(ended["error"])["hint"]
        eventually(lambda: not live.position().fenced, "the fence falls")
        assert (live.digest(), live.position().epoch) == (digest, epoch)
        assert live.state()[1] == schemas
        (aborted,) = live.events_about(INSTANCE_EVENTS, RestoreAborted.TYPE, ended["restore_id"])
        assert aborted["fence_no"] == live.position().highest_fence_no
        assert live.events_about(RESTORE_EVENTS, ev.ABORTED, ended["restore_id"])
        live.add_project(f"goes on-{uuid4().hex[:6]}")


def test_a_restore_cancelled_behind_its_fence_leaves_the_instance_as_it_was(live: Live) -> None:
    backup, key = live.backup()
    live.add_project(f"kept-{uuid4().hex[:6]}")
    digest, epoch = live.digest(), live.position().epoch
    with live.admin() as reader:
        with reader.transaction():
            # An old transaction holds the cut-over up: that is the moment.
            reader.execute("SELECT count(*) FROM instance.projects")
            asked = live.start(key, backup_id=backup["backup_id"])["restore_id"]
            eventually(
                lambda: (
                    live.services.restores.get(asked).get("step")
                    == "waiting for older transactions"
                ),
                "everything is loaded",
            )
            live.services.restores.cancel(asked)
        ended = live.services.restores.wait(asked)
    assert ended["state"] == "cancelled"
    eventually(lambda: not live.position().fenced, "the fence falls")
    assert (live.digest(), live.position().epoch) == (digest, epoch)
    assert not [name for name in live.schemas() if "staging" in name]


def test_a_restore_killed_behind_its_fence_is_given_up_at_the_next_start(live: Live) -> None:
    backup, key = live.backup()
    live.add_project(f"kept-{uuid4().hex[:6]}")
    digest, epoch = live.digest(), live.position().epoch
    with live.admin() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM instance.projects")
        asked = live.start(key, backup_id=backup["backup_id"])["restore_id"]
        eventually(
            lambda: (
                live.services.restores.get(asked).get("step") == "waiting for older transactions"
            ),
            "everything is loaded",
        )
        live.stack.kill("restore")
    live.stack.wait_healthy()
    ended = live.services.restores.wait(asked)
    assert (ended["state"], plain(ended["error"])["code"]) == ("aborted", "interrupted")
    eventually(lambda: not live.position().fenced, "the fence falls")
    assert (live.digest(), live.position().epoch) == (digest, epoch)
    assert not [name for name in live.schemas() if "staging" in name]
    assert live.restore(backup, key)["state"] == "restored"


def test_a_service_told_to_stop_finishes_the_restore_in_hand(live: Live) -> None:
    backup, key = live.backup()
    live.add_project(f"undone-{uuid4().hex[:6]}")
    with live.admin() as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM instance.projects")
        asked = live.start(key, backup_id=backup["backup_id"])["restore_id"]
        eventually(
            lambda: (
                live.services.restores.get(asked).get("step") == "waiting for older transactions"
            ),
            "everything is loaded",
        )
        os.kill(live.stack.pids()["restore"], signal.SIGTERM)
        time.sleep(1.0)
    live.stack.wait_healthy()
    assert live.services.restores.wait(asked)["state"] == "restored"
    assert live.digest() == backup["digest"]
