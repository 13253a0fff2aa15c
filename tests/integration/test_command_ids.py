"""A command under the id of an earlier one that asked for something else is refused, and does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import (
    CreateBackup,
    DeleteBackup,
    HoldBackup,
    ReleaseBackup,
    RunRetention,
)
from backup_service.context import BackupContext
from backup_service.handlers.apply_retention import request_retention
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from backup_service.handlers.request_backup import request_backup
from shared.errors import CommandReused
from tests.plugins.postgres import PlaceDatabase, TestPostgres
from tests.stored import CALLER, an_old_one, assert_untouched, shown, storing, types


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    return postgres.fresh_place()


@pytest.fixture
def context(place: PlaceDatabase, tmp_path: Path) -> Iterator[BackupContext]:
    with storing(place, tmp_path) as made:
        yield made


@pytest.fixture
def command_id() -> UUID:
    return uuid4()


def test_a_hold_under_the_id_of_another_backups_is_refused_and_not_lost_in_silence(
    context: BackupContext, command_id: UUID
) -> None:
    first, second = an_old_one(context), an_old_one(context)
    held = HoldBackup(command_id=command_id, reason="a case")
    hold_backup(context, first, held, CALLER)
    with pytest.raises(CommandReused, match="another backup_id"):
        hold_backup(context, second, held, CALLER)
    with pytest.raises(CommandReused, match="something else"):
        release_backup(context, first, ReleaseBackup(command_id=command_id, reason="x"), CALLER)
    assert shown(context, second)["holds"] == []
    assert len(shown(context, first)["holds"]) == 1


def test_a_release_and_a_deletion_are_of_the_backup_that_they_name(
    context: BackupContext, command_id: UUID
) -> None:
    first, second = an_old_one(context), an_old_one(context)
    for backup_id in (first, second):
        hold_backup(context, backup_id, HoldBackup(reason="a case"), CALLER)
    released = ReleaseBackup(command_id=command_id, reason="over")
    release_backup(context, first, released, CALLER)
    with pytest.raises(CommandReused, match="another backup_id"):
        release_backup(context, second, released, CALLER)
    deleted = DeleteBackup(command_id=uuid4(), reason="old", confirm=first)
    delete_backup(context, first, deleted, CALLER)
    release_backup(context, second, ReleaseBackup(reason="over"), CALLER)
    with pytest.raises(CommandReused, match="another backup_id"):
        delete_backup(context, second, deleted.model_copy(update={"confirm": second}), CALLER)
    assert_untouched(context, second)


def test_a_run_of_retention_is_the_one_that_was_asked_for(
    context: BackupContext, command_id: UUID
) -> None:
    asked = RunRetention(command_id=command_id, reason="once")
    first = request_retention(context, asked, CALLER)
    assert request_retention(context, asked, CALLER) == first
    with pytest.raises(CommandReused, match="another reason"):
        request_retention(context, asked.model_copy(update={"reason": "twice"}), CALLER)


def test_of_two_commands_at_once_under_one_id_one_is_refused(
    context: BackupContext, command_id: UUID
) -> None:
    creator = replace(CALLER, permissions=frozenset({"create"}))
    commands = [CreateBackup(command_id=command_id, reason=reason) for reason in ("one", "other")]

    def ask(command: CreateBackup) -> str:
        try:
            return str(request_backup(context, command, creator)["reason"])
        except CommandReused:
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, commands))
    assert sorted(answers) in (["one", "refused"], ["other", "refused"])
    assert types(context, str(commands[0].backup_id)).count(ev.REQUESTED) == 1
