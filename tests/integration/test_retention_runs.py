"""The rules in force, applied: asked for once, done once, and what a restore does to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from backup_service import events as ev
from backup_service.commands import HoldBackup, RunRetention
from backup_service.configuration.reading import digest_of, read_configured, stream_of
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers import apply_retention as applying
from backup_service.handlers.apply_retention import (
    apply_waiting,
    preview_retention,
    request_retention,
    retain_after,
    show_run,
)
from backup_service.handlers.hold_backup import hold_backup
from backup_service.handlers.rebuild_history import rebuild_history
from backup_service.handlers.tend_backups import tend_backups
from backup_service.retention.judging import check_leaves_something
from backup_service.retention.policy import RetentionPolicy
from serving.requester import Requester
from shared.crashpoints import CrashPoint
from shared.errors import AccessError, RetentionRefused, RetentionRunNotFound, UnavailableError
from shared.eventstore import NewEvent
from shared.instance.migrate import migrate
from shared.instance.position import first_position, write_position
from shared.storage import LocalFolder
from tests.clock import HandClock
from tests.keeping import INSTANCE, META, append, created, offline_context
from tests.plugins.postgres import PlaceDatabase, TestPostgres

Json = dict[str, Any]
CALLER = Requester("anna", frozenset({"delete", "hold"}), "test", "corr-1")
TABLES = ("events", "backups", "leases", "waiting_keys", "retention_runs")


@pytest.fixture(scope="module")
def place(postgres: TestPostgres) -> PlaceDatabase:
    made = postgres.fresh_place()
    with psycopg.connect(made.dsn("secryn_projector")) as conn:
        migrate(conn, "instance")
        write_position(conn, first_position("cluster", "topic"))
    return made


@pytest.fixture
def context(place: PlaceDatabase, tmp_path: Path) -> Iterator[BackupContext]:
    made = offline_context(place.dsn("secryn_backup"), tmp_path, HandClock())
    with made.pool.connection() as conn:
        conn.execute("TRUNCATE " + ", ".join(f"backup.{name}" for name in TABLES))
    with psycopg.connect(place.dsn(), autocommit=True) as conn:
        conn.execute("DELETE FROM instance.settings")
        conn.execute("UPDATE instance.log_position SET epoch = 1, fence_no = NULL")
    yield made
    made.pool.close()


def some_backups(context: BackupContext, days: int) -> list[str]:
    """Make a backup a day, each with its object; return the ids, the oldest first."""
    assert isinstance(context.clock, HandClock)
    made = []
    for _ in range(days):
        context.clock.pass_(days=1)
        backup_id = created(context)
        facts = {"started_at": context.clock.now().isoformat(), "size_bytes": 1, "sha256": "0"}
        append(context, backup_id, NewEvent(ev.CREATED, facts), NewEvent(ev.KEY_VIEWED, {}))
        for name in (object_name(backup_id), receipt_name(backup_id)):
            writer = context.objects.create(name)
            writer.write(b"x")
            writer.commit()
        made.append(backup_id)
    return made


def write_rules(place: PlaceDatabase, rules: RetentionPolicy) -> None:
    """Let the store have the rules, whoever set them."""
    with psycopg.connect(place.dsn("secryn_projector"), autocommit=True) as conn:
        conn.execute("DELETE FROM instance.settings")
        conn.execute(
            "INSERT INTO instance.settings (name, value, updated_at, updated_by) "
            "VALUES ('backup.retention', %s, now(), 'anna')",
            (Jsonb(rules.as_json()),),
        )


def set_rules(context: BackupContext, place: PlaceDatabase, epoch: int = 1, **rules: Any) -> None:
    """Set rules here, and let the store have them."""
    value = RetentionPolicy(**rules)
    facts = {
        "value": value.as_json(), "digest": digest_of(value.as_json()), "epoch": epoch,
        "topic_id": "topic", "setting_event_id": None, "goes_on_since": None,
        "before": {"digest": digest_of(None), "origin": "ours", "since": None},
    }  # fmt: skip
    with context.pool.connection() as conn:
        stream = stream_of(RetentionPolicy)
        version = context.store.version(conn, stream)
        context.store.append(conn, stream, version, [NewEvent(ev.CONFIGURED, facts)], META)
    write_rules(place, value)


def restored(
    context: BackupContext, place: PlaceDatabase, *, here: bool, told: bool = True, **rules: Any
) -> None:
    """Raise the epoch, and bring rules back, as a restore does."""
    with psycopg.connect(place.dsn(), autocommit=True) as conn:
        conn.execute("UPDATE instance.log_position SET epoch = epoch + 1")
        (epoch,) = conn.execute("SELECT epoch FROM instance.log_position").fetchone() or (0,)
    write_rules(place, RetentionPolicy(**rules))
    if told:
        facts = {"restore_id": str(uuid4()), "epoch": epoch, "of_this_instance": here,
                 "source_instance_id": str(INSTANCE), "undo_of": None}  # fmt: skip
        with context.pool.connection() as conn:
            version = context.store.version(conn, ev.RESTORES_STREAM)
            noted = NewEvent(ev.RESTORE_NOTED, facts)
            context.store.append(conn, ev.RESTORES_STREAM, version, [noted], META)


def run(context: BackupContext) -> Json:
    """Have the rules applied; return the run as it ended."""
    asked = request_retention(context, RunRetention(reason="a test"), CALLER)
    assert asked["state"] == "requested"
    apply_waiting(context)
    return show_run(context, asked["run_id"])


def ask(context: BackupContext, cause: object) -> None:
    """Have the rules applied as a scheduled backup does that is announced."""
    with context.pool.connection() as conn:
        retain_after(context, conn, cause)


def states(context: BackupContext, backup_ids: list[str]) -> list[str]:
    with context.pool.connection() as conn:
        return [context.history.get(conn, one)["state"] for one in backup_ids]


def rules_of(document: Json) -> list[tuple[str, str]]:
    """Return verdict and rule of each backup, the oldest first."""
    return [(one["verdict"], one["rule"]) for one in reversed(document["backups"])]


def test_a_run_purges_what_the_preview_names_and_says_by_which_rule(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 4)
    set_rules(context, place, keep_last=2)
    previewed = preview_retention(context)
    assert (previewed["purge"], previewed["keep"], previewed["origin"]) == (2, 2, "ours")
    assert rules_of(previewed) == [
        ("purge", "keep_last"), ("purge", "keep_last"),
        ("keep", "within_limits"), ("keep", "newest_that_counts"),
    ]  # fmt: skip
    assert states(context, backups) == ["created"] * 4
    ended = run(context)
    assert states(context, backups) == ["purged", "purged", "created", "created"]
    assert ended["state"] == "applied"
    assert ended["outcome"]["purged_backups"] == backups[:2]
    assert (ended["outcome"]["kept"], ended["outcome"]["rules"]["keep_last"]) == (2, 2)
    with context.pool.connection() as conn:
        gone = context.history.get(conn, backups[0])["purged"]
    assert (gone["why"], gone["rule"], gone["by"]) == ("retention", "keep_last", "anna")
    assert [info.name.split(".")[0] for info in context.objects.list()] == sorted(backups[2:] * 2)


def test_a_rebuild_of_the_history_brings_every_run_back(
    context: BackupContext, place: PlaceDatabase
) -> None:
    some_backups(context, 3)
    set_rules(context, place, keep_last=2)
    ended = run(context)
    ask(context, "a backup")
    with context.pool.connection() as conn:
        (waits,) = context.runs.waiting(conn)
        conn.execute("TRUNCATE backup.retention_runs")
    rebuild_history(context, replace(CALLER, permissions=frozenset({"configure"})))
    assert show_run(context, ended["run_id"]) == ended
    with context.pool.connection() as conn:
        assert context.runs.waiting(conn) == [waits]


def test_without_rules_nothing_is_purged(context: BackupContext, place: PlaceDatabase) -> None:
    backups = some_backups(context, 3)
    assert run(context)["outcome"]["purged"] == 0
    assert states(context, backups) == ["created"] * 3


def test_proposed_rules_are_previewed_and_not_set(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 3)
    assert preview_retention(context, RetentionPolicy(keep_last=1))["purge"] == 2
    assert preview_retention(context)["purge"] == 0
    run(context)
    assert states(context, backups) == ["created"] * 3


def test_a_hold_that_comes_between_the_judging_and_the_purge_keeps(
    context: BackupContext, place: PlaceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=1)

    def hold_it(point: CrashPoint) -> None:
        if point is applying.JUDGED:
            hold_backup(context, backups[0], HoldBackup(reason="a case"), CALLER)

    monkeypatch.setattr(CrashPoint, "reach", hold_it)
    outcome = run(context)["outcome"]
    assert states(context, backups) == ["created", "purged", "created"]
    assert outcome["skipped"] == [{"backup_id": backups[0], "code": "backup.held"}]


def test_rules_that_change_between_the_judging_and_the_purge_hold(
    context: BackupContext, place: PlaceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=1)

    def change(point: CrashPoint) -> None:
        if point is applying.JUDGED:
            set_rules(context, place, keep_last=2)

    monkeypatch.setattr(CrashPoint, "reach", change)
    assert run(context)["outcome"]["skipped"] == [
        {"backup_id": backups[1], "code": "retention.kept"}
    ]
    assert states(context, backups) == ["purged", "created", "created"]


def test_the_same_request_and_the_same_scheduled_run_again_are_one_run(
    context: BackupContext, place: PlaceDatabase
) -> None:
    command = RunRetention(command_id=uuid4(), reason="once")
    first = request_retention(context, command, CALLER)
    apply_waiting(context)
    assert request_retention(context, command, CALLER) == show_run(context, first["run_id"])
    cause = uuid4()
    for _ in range(2):
        ask(context, cause)
        apply_waiting(context)
    with context.pool.connection() as conn:
        found = [event.type for event in context.store.read_all(conn, 0, 1000)]
    assert found.count(ev.RETENTION_REQUESTED) == found.count(ev.RETENTION_APPLIED) == 2


def test_it_takes_the_permission_and_a_run_that_never_was_is_not_found(
    context: BackupContext,
) -> None:
    stranger = replace(CALLER, permissions=frozenset({"read", "configure"}))
    with pytest.raises(AccessError):
        request_retention(context, RunRetention(reason="x"), stranger)
    with pytest.raises(RetentionRunNotFound):
        show_run(context, str(uuid4()))


def test_rules_that_would_purge_every_backup_that_counts_are_refused(
    context: BackupContext, place: PlaceDatabase
) -> None:
    assert isinstance(context.clock, HandClock)
    some_backups(context, 2)
    context.clock.pass_(days=40)
    with context.pool.connection() as conn:
        with pytest.raises(RetentionRefused) as refused:
            check_leaves_something(context, conn, RetentionPolicy(older_than_days=30))
        assert "older_than_days: 41" in refused.value.advice
        check_leaves_something(context, conn, RetentionPolicy(older_than_days=41))


def test_rules_that_are_on_their_way_to_the_store_purge_only_what_both_would(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=2)
    # Decided, and told; the store has the older ones, or some that nobody here decided.
    write_rules(place, RetentionPolicy(keep_last=1))
    run(context)
    assert states(context, backups) == ["purged", "created", "created"]


# After a restore


def test_rules_that_a_restore_brought_back_purge_only_what_both_would_until_confirmed(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 4)
    set_rules(context, place, keep_last=3)
    restored(context, place, here=True, keep_last=1)
    previewed = preview_retention(context)
    assert (previewed["origin"], previewed["confirmed"]) == ("restored", False)
    assert [rule for _, rule in rules_of(previewed)] == [
        "keep_last", "unconfirmed", "unconfirmed", "newest_that_counts",
    ]  # fmt: skip
    run(context)
    assert states(context, backups) == ["purged", "created", "created", "created"]
    # Confirmed: what is there is what was decided here, in this epoch.
    set_rules(context, place, epoch=2, keep_last=1)
    run(context)
    assert states(context, backups) == ["purged", "purged", "purged", "created"]


def test_rules_that_were_never_set_here_purge_nothing_until_confirmed(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 3)
    restored(context, place, here=True, keep_last=1)
    run(context)
    assert states(context, backups) == ["created"] * 3


@pytest.mark.parametrize("told", [True, False])
def test_rules_of_another_instance_or_of_a_restore_that_is_not_told_yet_are_paused(
    context: BackupContext, place: PlaceDatabase, told: bool
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=1)
    restored(context, place, here=False, told=told, keep_last=1)
    previewed = preview_retention(context)
    assert previewed["paused"]
    assert [rule for _, rule in rules_of(previewed)][:2] == ["paused", "paused"]
    run(context)
    assert states(context, backups) == ["created"] * 3


def test_behind_the_fence_of_a_restore_nothing_is_purged(
    context: BackupContext, place: PlaceDatabase
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=1)
    with psycopg.connect(place.dsn(), autocommit=True) as conn:
        conn.execute(
            "UPDATE instance.log_position SET fence_no = 1, fence_offset = 0, "
            "fence_restore_id = gen_random_uuid()"
        )
    run(context)
    with psycopg.connect(place.dsn(), autocommit=True) as conn:
        conn.execute(
            "UPDATE instance.log_position SET fence_no = NULL, fence_offset = NULL, "
            "fence_restore_id = NULL"
        )
    assert states(context, backups) == ["created"] * 3
    with context.pool.connection() as conn:
        assert read_configured(conn, context.store, RetentionPolicy).confirmed


# Crashes, and a storage that refuses


class Killed(BaseException):
    """The process gets no further."""


@pytest.mark.parametrize("name", ["ASKED", "JUDGED", "APPLYING"])
def test_killed_anywhere_a_run_is_done_once_by_whoever_comes_next(
    context: BackupContext, place: PlaceDatabase, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    backups = some_backups(context, 3)
    set_rules(context, place, keep_last=1)
    cause = uuid4()

    def die(point: CrashPoint) -> None:
        if point is getattr(applying, name):
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CrashPoint, "reach", die)
        ask(context, cause)
        apply_waiting(context)
    ask(context, cause)
    apply_waiting(context)
    assert states(context, backups) == ["purged", "purged", "created"]
    with context.pool.connection() as conn:
        found = [event.type for event in context.store.read_all(conn, 0, 1000)]
    assert found.count(ev.PURGED) == 2
    assert found.count(ev.RETENTION_REQUESTED) == found.count(ev.RETENTION_APPLIED) == 1


def test_every_point_of_a_run_is_died_at_here() -> None:
    ours = {point.name for point in (applying.ASKED, applying.JUDGED, applying.APPLYING)}
    assert ours == {n for n in CrashPoint.declared if n.startswith("backup.retention.")}


class Refusing(LocalFolder):
    """A folder with a lock on its objects."""

    refusing: bool = True

    def delete(self, name: str) -> None:
        if self.refusing:
            raise UnavailableError(f"deleting {name} failed: object lock")
        super().delete(name)


def test_a_refused_purge_is_reported_waits_and_comes_up_again_by_itself(
    context: BackupContext, place: PlaceDatabase
) -> None:
    storage = Refusing(context.settings.storage.folder)
    context = replace(context, objects=storage)
    assert isinstance(context.clock, HandClock)
    backups = some_backups(context, 2)
    set_rules(context, place, keep_last=1)
    assert run(context)["outcome"]["refused_backups"] == backups[:1]
    # Not before its time, however often the rules are applied.
    assert run(context)["outcome"]["refused"] == 0
    assert states(context, backups) == ["created", "created"]
    context.clock.pass_(minutes=1)
    for _ in range(2):
        tend_backups(context)
        apply_waiting(context)
    storage.refusing = False
    context.clock.pass_(minutes=2)
    tend_backups(context)
    apply_waiting(context)
    assert states(context, backups) == ["purged", "created"]


def test_a_refused_purge_that_the_rules_no_longer_want_is_given_up(
    context: BackupContext, place: PlaceDatabase
) -> None:
    context = replace(context, objects=Refusing(context.settings.storage.folder))
    backups = some_backups(context, 2)
    set_rules(context, place, keep_last=1)
    run(context)
    set_rules(context, place, keep_last=5)
    run(context)
    with context.pool.connection() as conn:
        assert context.history.get(conn, backups[0])["purge"] is None
