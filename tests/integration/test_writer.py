"""The writer: fence, epoch, sealing, sizes, and waiting for the store."""

from __future__ import annotations

import os
import threading
import time
from uuid import uuid4

import pytest

from shared.errors import (
    EpochChanged,
    EventRejected,
    FenceOpen,
    KeyringError,
    SecretNotFound,
    StoreBehind,
    UsageError,
    ValueTooLarge,
)
from shared.instance.events import (
    ProjectCreated,
    SecretCreated,
    SecretDeleted,
    SecretVersionAdded,
    SettingSet,
    VaultCreated,
)
from shared.instance.keyring import RootKey
from shared.instance.opener import SecretOpener
from shared.instance.stored import Written
from shared.instance.writer import MAX_RECORD_BYTES, InstanceWriter, NewEvent
from tests.plugins.instance import TestInstance, eventually

WAIT_S = 20


def make_vault(writer: InstanceWriter) -> VaultCreated:
    project = ProjectCreated(id=uuid4(), name="Buchhaltung")
    vault = VaultCreated(id=uuid4(), project_id=project.id, name="production")
    writer.append(project)
    writer.append(vault)
    return vault


def put_secret(
    writer: InstanceWriter, vault: VaultCreated, value: bytes, name: str = "db/passwört"
) -> tuple[SecretCreated, Written]:
    secret = uuid4()
    event = SecretCreated(
        id=secret,
        vault_id=vault.id,
        name=name,
        kind="password",
        sealed=writer.seal(value, "secret", secret, 1),
        size_bytes=len(value),
    )
    return event, writer.append(event)


def test_a_secret_opens_at_every_version(instance: TestInstance) -> None:
    writer = instance.writer
    with instance.projector():
        instance.wait_stored(instance.started(1, restore := uuid4()))
        instance.aborted(1, restore)
        eventually(lambda: not instance.position().fenced, "the fence is down")
        vault = make_vault(writer)
        secret, _ = put_secret(writer, vault, "größe".encode())
        writer.rotate_data_key("secret")
        written = writer.append(
            SecretVersionAdded(
                id=secret.id,
                version=2,
                sealed=writer.seal(b"second", "secret", secret.id, 2),
                size_bytes=6,
            )
        )
        writer.wait_until_stored(written, WAIT_S)
    path = "Buchhaltung/production/db/passwört"
    opened = writer.open_secret(path)
    assert (opened.value, opened.version, opened.created_by) == (b"second", 2, "tester")
    assert b"second".decode() not in repr(opened)
    assert writer.open_secret(path, 1).value == "größe".encode()
    for missing in (f"{path}x", "Buchhaltung/production", "x/production/db/passwört"):
        with pytest.raises(SecretNotFound):
            writer.open_secret(missing)
    with pytest.raises(SecretNotFound, match="at version 3"):
        writer.open_secret(path, 3)
    # Two data keys, the first retired; both still open what they sealed.
    assert instance.rows("SELECT state FROM instance.keyring ORDER BY created_at") == [
        ("retired",),
        ("active",),
    ]
    other = SecretOpener(instance.pool, RootKey.create(instance.folder / "other.key"))
    with pytest.raises(KeyringError):
        other.open(path)


def test_another_writer_s_data_key_is_found(instance: TestInstance) -> None:
    with instance.projector(), instance.new_writer() as other:
        vault = make_vault(instance.writer)
        _, written = put_secret(instance.writer, vault, b"one", "one")
        instance.writer.wait_until_stored(written, WAIT_S)
        assert other.open_secret("Buchhaltung/production/one").value == b"one"
        instance.writer.rotate_data_key("secret")
        _, written = put_secret(instance.writer, vault, b"two", "two")
        instance.writer.wait_until_stored(written, WAIT_S)
        assert other.open_secret("Buchhaltung/production/two").value == b"two"


def test_a_deleted_secret_does_not_open(instance: TestInstance) -> None:
    with instance.projector():
        secret, _ = put_secret(instance.writer, make_vault(instance.writer), b"gone")
        written = instance.writer.append(SecretDeleted(id=secret.id))
        instance.writer.wait_until_stored(written, WAIT_S)
        with pytest.raises(SecretNotFound):
            instance.writer.open_secret("Buchhaltung/production/db/passwört")


def test_the_largest_value_goes_through_and_a_larger_one_is_not_sent(
    instance: TestInstance,
) -> None:
    with instance.projector():
        vault = make_vault(instance.writer)
        _, small = put_secret(instance.writer, vault, b"", "empty")
        # base64 makes four bytes of three; the rest of the event is below 2 KiB.
        largest = os.urandom((MAX_RECORD_BYTES - 2_048) * 3 // 4)
        _, written = put_secret(instance.writer, vault, largest, "largest")
        assert written.offset == small.offset + 1
        with pytest.raises(ValueTooLarge, match=str(MAX_RECORD_BYTES)):
            put_secret(instance.writer, vault, largest + bytes(4_096), "too large")
        instance.writer.wait_until_stored(written, WAIT_S)
        with instance.kafka.admin() as admin:
            assert admin.high_watermark(instance.topic) == written.offset + 1
        assert instance.writer.open_secret("Buchhaltung/production/largest").value == largest


def test_an_open_fence_refuses_or_makes_it_wait(instance: TestInstance) -> None:
    event = ProjectCreated(id=uuid4(), name="p")
    with instance.projector():
        instance.started(1, restore := uuid4())
        eventually(lambda: instance.position().fenced, "the fence stands")
        with pytest.raises(FenceOpen, match=str(restore)):
            instance.writer.append(event)
        with pytest.raises(FenceOpen):
            instance.writer.append_all([NewEvent(event)])
        begun = time.monotonic()
        with pytest.raises(FenceOpen):
            instance.writer.append(event, wait_for_fence_s=0.3)
        assert time.monotonic() - begun >= 0.3
        timer = threading.Timer(0.3, instance.aborted, (1, restore))
        timer.start()
        written = instance.writer.append(event, wait_for_fence_s=WAIT_S)
        timer.join()
        instance.writer.wait_until_stored(written, WAIT_S)
    assert instance.rows("SELECT name FROM instance.projects") == [("p",)]


def test_what_was_prepared_before_a_restore_is_refused_once(instance: TestInstance) -> None:
    writer = instance.writer
    with instance.projector():
        vault = make_vault(writer)
        _, written = put_secret(writer, vault, b"before")
        writer.wait_until_stored(written, WAIT_S)
        instance.started(1, uuid4())
        eventually(lambda: instance.position().fenced, "the fence stands")
        row = instance.position()
        instance.cut_over(row)
        instance.wait_stored(instance.restored(row))
        with pytest.raises(EpochChanged):
            writer.append(ProjectCreated(id=uuid4(), name="prepared before"))
        # The data keys are dropped with it: there is none in the restored state, so one is made.
        vault = make_vault(writer)
        _, written = put_secret(writer, vault, b"after", "after")
        assert written.epoch == 2
        writer.wait_until_stored(written, WAIT_S)
        assert writer.open_secret("Buchhaltung/production/after").value == b"after"
    assert instance.rows("SELECT count(*) FROM instance.keyring") == [(1,)]
    assert instance.rows("SELECT count(*) FROM instance.rejections") == [(0,)]


def test_waiting_ends_when_a_restore_overtook_the_event(instance: TestInstance) -> None:
    writer = instance.writer
    with instance.projector():
        before = writer.append(ProjectCreated(id=uuid4(), name="before"))
        writer.wait_until_stored(before, WAIT_S)
        fence = instance.started(1, uuid4())
        eventually(lambda: instance.position().fenced, "the fence stands")
        with pytest.raises(FenceOpen):
            writer.wait_until_stored(Written(fence + 1, 1), WAIT_S)
        writer.wait_until_stored(before, WAIT_S)
        row = instance.position()
        instance.cut_over(row)
        instance.wait_stored(instance.restored(row))
        with pytest.raises(EpochChanged):
            writer.wait_until_stored(before, WAIT_S)


def test_waiting_tells_rejected_from_late(instance: TestInstance) -> None:
    writer = instance.writer
    orphan = VaultCreated(id=uuid4(), project_id=uuid4(), name="orphan")
    with instance.projector(), pytest.raises(EventRejected, match="missing"):
        writer.wait_until_stored(writer.append(orphan), WAIT_S)
    late = writer.append(ProjectCreated(id=uuid4(), name="late"))
    with pytest.raises(StoreBehind, match=str(late.offset)):
        writer.wait_until_stored(late, 0.2)


def test_a_bulk_write_keeps_order_and_counts(instance: TestInstance) -> None:
    events = [ProjectCreated(id=uuid4(), name=f"p{number}") for number in range(5_000)]
    seen: list[int] = []
    with instance.projector():
        written = instance.writer.append_all(
            (NewEvent(event) for event in events), lambda count, _: seen.append(count)
        )
        assert written is not None
        instance.wait_stored(written.offset)
    assert seen == sorted(seen)
    assert seen[-1] == 5_000
    logged = [logged.event for logged in instance.read_log()]
    assert logged == events
    assert instance.writer.append_all([]) is None


@pytest.mark.parametrize("actor", ["a\nline", "nul\x00", "half \ud800", "x" * 3000])
def test_an_actor_that_no_reader_would_take_is_refused_before_it_is_on_the_log(
    instance: TestInstance, actor: str
) -> None:
    with instance.projector():
        with pytest.raises(UsageError):
            instance.writer.append(SettingSet(name="a", value=1), actor=actor)
        written = instance.writer.append(SettingSet(name="b", value=2), actor="anna")
        instance.wait_stored(written.offset)
    assert instance.rows("SELECT name FROM instance.settings") == [("b",)]
