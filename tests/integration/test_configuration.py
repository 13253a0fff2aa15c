"""Standing settings: changed once, by one, told, audited; and what a restore does to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.configuration.commands import Configure, Confirm, parse_configure
from backup_service.configuration.reading import Configured, Origin, read_configured
from backup_service.configuration.schedule import Schedule
from backup_service.configuration.verification import Verification
from backup_service.handlers.configure import configure, confirm
from backup_service.handlers.note_restore import note_restore
from backup_service.verification.worker import present_plan
from shared.archive.age import HybridIdentity
from shared.errors import (
    AccessError,
    ChangeOnItsWay,
    ConfigurationChanged,
    EpochChanged,
    NothingToConfirm,
    SecrynError,
    SignatureInvalid,
    StoreBehind,
)
from shared.instance.events import SettingSet
from shared.instance.reading import ANNOUNCE
from shared.messages import CloudEvent, Issuer
from shared.messages.between import RESTORE_COMPLETED
from tests.backing import ADMIN, ISSUER, Backing
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

RECIPIENT = HybridIdentity.generate().to_recipient().encode()
OTHER = HybridIdentity.generate().to_recipient().encode()
ONLY_CONFIGURE = replace(ADMIN, name="otto", permissions=frozenset({"configure", "read"}))


@pytest.fixture(scope="module")
def backing(
    postgres: TestPostgres, kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backing]:
    """A place whose store and relay are at work."""
    made = Backing.create(postgres, kafka, tmp_path_factory.mktemp("place"))
    with made.stack, made.projector(), made.relay():
        made.writer.wait_until_stored(made.add("a"), 20)
        yield made


def now(backing: Backing) -> Configured[Schedule]:
    with backing.context.pool.connection() as conn:
        return read_configured(conn, backing.context.store, Schedule)


def change(if_match: str = "*", **value: Any) -> Configure:
    return Configure(uuid4(), if_match, "a test", Schedule(**value))


def restored(backing: Backing, source: UUID | None, undo_of: UUID | None = None) -> UUID:
    """Raise the epoch as a restore does; tell of it if a source is given."""
    backing.execute("UPDATE instance.log_position SET epoch = epoch + 1")
    restore_id = uuid4()
    if source is not None or undo_of is not None:
        note_restore(
            backing.context, told(backing, restore_id, source, undo_of), announcer(backing)
        )
    return restore_id


def told(
    backing: Backing, restore_id: UUID, source: UUID | None, undo_of: UUID | None = None
) -> CloudEvent:
    data = {"restore_id": str(restore_id), "epoch": backing.position().epoch, "voided": None}
    data["source_instance_id"] = None if source is None else str(source)
    data["undo_of"] = None if undo_of is None else str(undo_of)
    return CloudEvent(RESTORE_COMPLETED, "/test", json.dumps(data).encode())


def announcer(backing: Backing) -> Issuer:
    return Issuer(ISSUER, backing.restorer.public, frozenset({ANNOUNCE}))


def test_a_change_is_in_the_instance_told_and_audited_and_a_repeat_changes_nothing(
    backing: Backing,
) -> None:
    before = now(backing)
    command = change(before.etag, enabled=True, at="03:15", zone="Europe/Berlin")
    shown = configure(backing.context, command, ADMIN)
    assert (shown["value"]["at"], shown["changed_by"], shown["origin"]) == ("03:15", "anna", "ours")
    rows = backing.rows(
        "SELECT value, updated_by FROM instance.settings WHERE name = 'backup.schedule'"
    )
    assert rows == [(command.value.as_json(), "anna")]
    assert configure(backing.context, command, ADMIN) == shown
    mine = [e for e in backing.events(ev.CONFIGURED) if e.causation_id == str(command.command_id)]
    assert [(e.actor, e.data["name"], e.data["reason"]) for e in mine] == [
        ("anna", "schedule", "a test")
    ]
    audited = [
        entry for entry in backing.audited("configuration.set")
        if entry["unmapped"]["details"]["after"]["at"] == "03:15"
    ]  # fmt: skip
    assert len(audited) == 1
    assert shown["etag"] != before.etag


def test_two_administrators_cannot_overwrite_each_other(backing: Backing) -> None:
    etag = now(backing).etag
    commands = [change(etag, at=f"04:{n:02}") for n in range(8)]

    def attempt(command: Configure) -> SecrynError | dict[str, Any]:
        try:
            return configure(backing.context, command, ADMIN)
        except (ConfigurationChanged, ChangeOnItsWay) as error:
            return error

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(attempt, commands))
    winners = [one for one in found if isinstance(one, dict)]
    assert len(winners) == 1
    assert now(backing).value.at == winners[0]["value"]["at"]
    assert {type(one) for one in found if not isinstance(one, dict)} <= {
        ConfigurationChanged, ChangeOnItsWay,
    }  # fmt: skip


def test_a_change_that_the_store_has_not_yet_is_not_decided_over(backing: Backing) -> None:
    before = now(backing)
    command = change(before.etag, at="05:00")
    with psycopg.connect(backing.place.dsn()) as conn:
        # The projector waits for this row.
        conn.execute("SELECT 1 FROM instance.log_position FOR UPDATE")
        configure(backing.context, command, ADMIN, wait_s=0)
        assert (now(backing).value, now(backing).origin) == (before.value, before.origin)
        with pytest.raises(ChangeOnItsWay):
            configure(backing.context, change(now(backing).etag, at="05:01"), ADMIN)
    assert configure(backing.context, command, ADMIN)["value"]["at"] == "05:00"


def test_who_may_not_configure_changes_nothing(backing: Backing) -> None:
    before = now(backing)
    for permissions in (frozenset({"read"}), frozenset({"configure"})):
        stranger = replace(ADMIN, permissions=permissions)
        with pytest.raises(AccessError):
            configure(backing.context, change(recipients=(RECIPIENT,)), stranger)
    limited = replace(ADMIN, allowed_recipients=frozenset({OTHER}))
    with pytest.raises(AccessError):
        configure(backing.context, change(recipients=(RECIPIENT,)), limited)
    assert now(backing) == before


def test_whom_somebody_named_with_the_right_to_may_stay_when_another_changes_the_time(
    backing: Backing,
) -> None:
    configure(backing.context, change(recipients=(RECIPIENT,)), ADMIN)
    shown = configure(backing.context, change(recipients=(RECIPIENT,), at="06:00"), ONLY_CONFIGURE)
    assert shown["value"]["recipients"] == [RECIPIENT]
    with pytest.raises(AccessError):
        configure(backing.context, change(recipients=(RECIPIENT, OTHER)), ONLY_CONFIGURE)
    audited = json.dumps(backing.audited("configuration.set"))
    assert RECIPIENT not in audited
    assert "SHA256:" in audited


def test_recipients_that_a_restore_brings_back_wait(backing: Backing) -> None:
    configure(backing.context, change(enabled=True, recipients=(RECIPIENT,)), ADMIN)
    assert now(backing).waiting_recipients == frozenset()
    restored(backing, backing.instance_id)
    found = now(backing)
    assert (found.origin, found.paused, found.confirmed) == (Origin.RESTORED, False, False)
    assert found.waiting_recipients == {RECIPIENT}
    assert found.decided is not None
    with pytest.raises(AccessError):
        confirm(backing.context, Confirm(uuid4(), "*", "r", Schedule), ONLY_CONFIGURE)
    with pytest.raises(ConfigurationChanged):
        confirm(backing.context, Confirm(uuid4(), "0" * 32, "r", Schedule), ADMIN)
    command = Confirm(uuid4(), found.etag, "r", Schedule)
    shown = confirm(backing.context, command, ADMIN)
    assert (shown["confirmed"], shown["value"]["recipients"]) == (True, [RECIPIENT])
    assert confirm(backing.context, command, ADMIN) == shown
    assert now(backing).waiting_recipients == frozenset()
    with pytest.raises(NothingToConfirm):
        confirm(backing.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)


def test_what_comes_from_another_instance_is_paused_until_it_is_confirmed(backing: Backing) -> None:
    configure(backing.context, change(enabled=True), ADMIN)
    restored(backing, None)
    assert (now(backing).origin, now(backing).paused) == (Origin.UNHEARD, True)
    foreign = restored(backing, uuid4())
    assert (now(backing).origin, now(backing).paused) == (Origin.FOREIGN, True)
    restored(backing, None, undo_of=foreign)
    # Nobody told what the one before the foreign one was.
    assert now(backing).origin in (Origin.FOREIGN, Origin.RESTORED)
    confirm(backing.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)
    assert not now(backing).paused


def test_an_undo_brings_back_what_was_there_before(backing: Backing) -> None:
    configure(backing.context, change(enabled=True), ADMIN)
    restored(backing, backing.instance_id)
    foreign = restored(backing, uuid4())
    undo = restored(backing, None, undo_of=foreign)
    assert now(backing).origin is Origin.RESTORED
    restored(backing, None, undo_of=undo)
    assert now(backing).origin is Origin.FOREIGN
    confirm(backing.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)


def test_a_restore_is_noted_once_and_only_from_one_who_may_tell(backing: Backing) -> None:
    event = told(backing, uuid4(), backing.instance_id)
    before = len(backing.events(ev.RESTORE_NOTED))
    with pytest.raises(SignatureInvalid):
        note_restore(backing.context, event, replace(announcer(backing), permissions=frozenset()))
    for _ in range(2):
        note_restore(backing.context, event, announcer(backing))
    assert len(backing.events(ev.RESTORE_NOTED)) == before + 1


def test_what_somebody_wrote_past_the_service_names_nobody_and_what_is_unreadable_says_so(
    backing: Backing,
) -> None:
    configure(backing.context, change(enabled=True), ADMIN)
    with suppress(EpochChanged):
        # The writer learns of what other tests did to the epoch.
        backing.add("b")
    value = Schedule(enabled=True, recipients=(OTHER,)).as_json()
    for document in (value, {"frequency": "yearly"}):
        written = backing.writer.append(SettingSet(name="backup.schedule", value=document))
        backing.writer.wait_until_stored(written, 20)
        found = now(backing)
        assert found.origin is Origin.WRITTEN
        if document is value:
            assert found.waiting_recipients == {OTHER}
    assert found.fault is not None
    assert not found.value.enabled
    with pytest.raises(NothingToConfirm):
        confirm(backing.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)
    assert configure(backing.context, change(enabled=True), ADMIN)["fault"] is None


def test_a_change_that_takes_longer_is_decided_and_says_so(backing: Backing) -> None:
    command = change(at="07:00")
    with pytest.raises(StoreBehind):
        configure(backing.context, command, ADMIN, wait_s=1e-6)
    assert configure(backing.context, command, ADMIN)["value"]["at"] == "07:00"


def test_a_document_says_which_field_is_wrong() -> None:
    with pytest.raises(SecrynError, match="enabled"):
        parse_configure(
            Schedule, {"command_id": str(uuid4()), "if_match": "*", "value": {"enabled": 3}}
        )


def test_verification_goes_by_its_setting_whoever_brought_it(backing: Backing) -> None:
    every_two_hours = Verification(every_s=7200, bytes_per_s=1_000_000)
    configure(backing.context, Configure(uuid4(), "*", "a test", every_two_hours), ADMIN)

    def plan() -> Verification | None:
        with psycopg.connect(backing.context.settings.postgres.dsn, autocommit=True) as conn:
            return present_plan(backing.context, conn)

    assert plan() == every_two_hours
    # It changes nothing and tells nobody anything: it goes on without a confirmation.
    restored(backing, uuid4())
    assert plan() == every_two_hours
