"""Taking keys into files: whole, once, and what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from backup_service.context import BackupContext
from backup_service.handlers.confirm_stored import KeyStored, confirm_stored
from backup_service.handlers.view_key import ViewKey, view_key
from serving.requester import Requester
from shared.client import KeyRequest, take_key
from shared.client.keys import View, request_file
from shared.errors import (
    AccessError,
    BackupNotFound,
    KeyAlreadyViewed,
    ProofNeeded,
    UnavailableError,
    UsageError,
)
from tests.clock import HandClock
from tests.keeping import KEY, created, offline_context
from tests.plugins.postgres import TestPostgres

ANNA = Requester("anna", frozenset({"view_key"}), "test", "corr-2", unattended=True)
PERSON = Requester("bob", frozenset({"view_key"}), "test", "corr-3")
ISSUER = Requester(
    "issuer:ci", frozenset({"view_key"}), "kafka:test", "corr-4", allowed_recipients=frozenset()
)


@pytest.fixture
def context(postgres: TestPostgres, tmp_path: Path) -> Iterator[BackupContext]:
    dsn = postgres.fresh_place().dsn("secryn_backup")
    made = offline_context(dsn, tmp_path, HandClock())
    yield made
    made.pool.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "taken").mkdir()
    return tmp_path / "taken" / "a.key"


def as_(requester: Requester, context: BackupContext) -> View:
    def view(backup_id: str, request: KeyRequest) -> str:
        command = ViewKey(**request.body())
        return request.open(view_key(context, backup_id, command, requester))

    return view


def test_the_request_is_a_secret_file_until_the_key_is_stored(
    context: BackupContext, target: Path
) -> None:
    backup_id = created(context)
    seen = []

    def cut(one: str, request: KeyRequest) -> str:
        seen.append((request_file(target).stat().st_mode & 0o777, repr(request)))
        as_(ANNA, context)(one, request)
        raise UnavailableError("the answer was lost")

    with pytest.raises(UnavailableError):
        take_key(cut, backup_id, target)
    assert seen[0][0] == 0o600
    assert "AGE-SECRET-KEY" not in seen[0][1]
    take_key(as_(ANNA, context), backup_id, target)
    assert target.read_text() == KEY
    assert list(target.parent.iterdir()) == [target]


def test_what_is_refused_leaves_nothing(context: BackupContext, target: Path) -> None:
    backup_id = created(context)
    view_key(context, backup_id, ViewKey(**KeyRequest.new(backup_id).body()), ANNA)
    with pytest.raises(KeyAlreadyViewed):
        take_key(as_(ANNA, context), backup_id, target)
    assert list(target.parent.iterdir()) == []
    with context.pool.connection() as conn:
        entries = [event.data for event in context.store.read_stream(conn, "audit")]
    assert [entry["status"] for entry in entries] == ["Success", "Failure"]
    assert "key.already_viewed" in str(entries[1])


def test_a_file_that_is_there_or_a_request_for_another_key_takes_none(
    context: BackupContext, target: Path
) -> None:
    backup_id = created(context)
    target.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        take_key(as_(ANNA, context), backup_id, target)
    target.unlink()
    KeyRequest.new(str(uuid4())).save(request_file(target))
    with pytest.raises(UsageError, match="another backup"):
        take_key(as_(ANNA, context), backup_id, target)
    with context.pool.connection() as conn:
        assert context.history.load(conn, backup_id).facts["key_state"] == "waiting"


@pytest.mark.parametrize(
    ("requester", "error"),
    [
        (PERSON, ProofNeeded),
        (ISSUER, ProofNeeded),
        (Requester("carl", frozenset({"read"}), "test", "corr", unattended=True), AccessError),
    ],
)
def test_without_a_proof_or_the_permission_nobody_gets_a_key_and_no_issuer_ever(
    context: BackupContext, target: Path, requester: Requester, error: type[AccessError]
) -> None:
    backup_id = created(context)
    with pytest.raises(error):
        take_key(as_(requester, context), backup_id, target)
    take_key(as_(ANNA, context), backup_id, target)


def test_who_viewed_a_key_says_that_it_is_stored_and_it_is_repeated_no_more(
    context: BackupContext,
) -> None:
    backup_id = created(context)
    request = KeyRequest.new(backup_id)
    view_key(context, backup_id, ViewKey(**request.body()), ANNA)
    another = KeyStored(request_id=uuid4())
    assert confirm_stored(context, backup_id, another, ANNA)["forgotten"] is False
    assert as_(ANNA, context)(backup_id, request) == KEY
    stored = KeyStored(request_id=UUID(request.request_id))
    assert confirm_stored(context, backup_id, stored, ANNA)["forgotten"] is True
    assert confirm_stored(context, backup_id, stored, ANNA)["forgotten"] is False
    with pytest.raises(KeyAlreadyViewed):
        as_(ANNA, context)(backup_id, request)
    with context.pool.connection() as conn:
        entries = [event.data for event in context.store.read_stream(conn, "audit")]
    told = [entry for entry in entries if entry["api"]["operation"] == "key.stored"]
    assert [entry["actor"]["user"]["name"] for entry in told] == ["anna"]
    with pytest.raises(BackupNotFound):
        confirm_stored(context, str(uuid4()), stored, ANNA)
    with pytest.raises(AccessError):
        confirm_stored(context, backup_id, stored, Requester("carl", frozenset(), "test", "c"))
