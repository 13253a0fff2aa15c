"""Retention, holds and deletion on a running stack: the command line, HTTP and signed commands."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import DELETE_BACKUP, HOLD_BACKUP, RELEASE_BACKUP, RUN_RETENTION
from shared.errors import (
    BackupHeld,
    BackupInUse,
    BackupNeeded,
    NewestBackup,
    NotConfirmed,
    RetentionRefused,
    SecrynError,
    UsageError,
)
from shared.messages.topics import BACKUP_COMMANDS, BACKUP_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def secryn(live: Live, *arguments: str) -> Json:
    document: Json = json.loads(live.stack.secryn(*arguments, "--json").stdout)
    return document


def state_of(live: Live, backup_id: str) -> str:
    return str(live.services.backups.get(backup_id)["state"])


def test_rules_are_previewed_set_and_applied_on_the_command_line(empty_live: Live) -> None:
    live = empty_live
    ids = [live.backup()[0]["backup_id"] for _ in range(4)]
    secryn(live, "backup", "hold", ids[0], "--reason", "a case", "--until", "2099-01-31")
    proposed = secryn(live, "retention", "preview", "--keep-last", "2")
    wanted = ["newest_that_counts", "within_limits", "keep_last", "held"]
    assert [one["rule"] for one in proposed["backups"]] == wanted
    assert secryn(live, "retention", "show")["value"]["keep_last"] is None
    assert secryn(live, "retention", "set", "--keep-last", "2")["value"]["keep_last"] == 2
    assert [one["rule"] for one in secryn(live, "retention", "preview")["backups"]] == wanted
    ended = secryn(live, "retention", "run")
    assert ended["outcome"]["purged_backups"] == [ids[1]]
    told = live.events_about(BACKUP_EVENTS, ev.PURGED, ids[1])
    assert [(one["why"], one["rule"]) for one in told] == [("retention", "keep_last")]
    shown = live.services.backups.get(ids[1])
    assert (shown["state"], plain(shown["purged"])["rule"]) == ("purged", "keep_last")
    assert not list((live.stack.state / "backups").glob(f"{ids[1]}*"))
    secryn(live, "backup", "release", ids[0], "--reason", "over")
    live.services.retention.wait(live.services.retention.run("again")["run_id"])
    assert [state_of(live, one) for one in ids] == ["purged", "purged", "created", "created"]


def test_a_backup_that_the_schedule_made_has_the_rules_applied(empty_live: Live) -> None:
    live = empty_live
    secryn(live, "schedule", "set", "--enable", "--after-events", "1")
    live.add_project("a change")
    (asked, *_) = live.events_about(BACKUP_EVENTS, ev.RETENTION_REQUESTED, "after a scheduled run")
    ended = live.services.retention.wait(asked["run_id"])
    assert (ended["state"], ended["requested_by"]) == ("applied", "backup_service")
    secryn(live, "schedule", "set", "--disable")


def test_a_backup_is_deleted_by_hand_when_its_id_is_typed(empty_live: Live, tmp_path: Path) -> None:
    live = empty_live
    old, newest = live.backup()[0]["backup_id"], live.backup()[0]["backup_id"]
    backups = live.services.backups
    with pytest.raises(NotConfirmed):
        backups.delete(old, "old", confirm=newest)
    with pytest.raises(NewestBackup):
        backups.delete(newest, "old", confirm=newest)
    backups.hold(old, "a case", holder="legal")
    with pytest.raises(BackupHeld):
        backups.delete(old, "old", confirm=old)
    backups.release(old, "over", holder="legal")
    assert secryn(live, "backup", "delete", old, "--reason", "old", "--confirm", old)["purged_at"]
    with pytest.raises(SecrynError) as refused:
        backups.download(old, tmp_path / "gone.age")
    assert refused.value.code == "conflict"


def test_rules_that_are_refused_say_what_to_write(empty_live: Live) -> None:
    configuration = empty_live.services.configuration
    before = configuration.get("retention")
    for value in ({"keep_last": 0}, {"older_than_days": -1}, {"keep_daily": 7}):
        with pytest.raises(RetentionRefused) as refused:
            configuration.set("retention", value, "*", "a test")
        assert "keep_last" in refused.value.advice or "older_than_days" in refused.value.advice
        with pytest.raises(RetentionRefused):
            empty_live.services.retention.preview(value)
    with pytest.raises(UsageError):
        empty_live.services.backups.hold(str(uuid4()), "x", until="yesterday")
    assert configuration.get("retention") == before


def test_signed_commands_hold_release_delete_and_apply_the_rules(empty_live: Live) -> None:
    live = empty_live
    old = live.backup()[0]["backup_id"]
    live.backup()
    held = {"backup_id": old, "command_id": str(uuid4()), "reason": "a case"}
    live.command(BACKUP_COMMANDS, HOLD_BACKUP, held)
    live.command(BACKUP_COMMANDS, HOLD_BACKUP, held)
    eventually(lambda: live.services.backups.get(old)["holds"], "the hold")
    delete = {"backup_id": old, "command_id": str(uuid4()), "reason": "old", "confirm": old}
    refused = live.command(BACKUP_COMMANDS, DELETE_BACKUP, delete)
    (answer,) = live.events_about(BACKUP_EVENTS, ev.REJECTED, refused.id)
    assert answer["code"] == "backup.held"
    live.command(BACKUP_COMMANDS, RELEASE_BACKUP, held | {"command_id": str(uuid4())})
    live.command(BACKUP_COMMANDS, DELETE_BACKUP, delete)
    eventually(lambda: state_of(live, old) == "purged", "the backup is deleted")
    live.command(BACKUP_COMMANDS, RUN_RETENTION, {"command_id": str(uuid4()), "reason": "kafka"})
    assert live.events_about(BACKUP_EVENTS, ev.RETENTION_REQUESTED, "kafka")
    assert len(live.events_about(BACKUP_EVENTS, ev.HELD, old)) == 1


def test_what_a_restore_came_from_and_every_newer_one_outlives_its_undo_window(
    empty_live: Live,
) -> None:
    live = empty_live
    older = live.backup()[0]["backup_id"]
    source, key = live.backup()
    newer = live.backup()[0]["backup_id"]
    live.backup()
    ended = live.restore(source, key)
    assert ended["state"] == "restored", ended["error"]
    backups = live.services.backups
    # Also before backup_service has heard that it is over: until then it is in use.
    with pytest.raises((BackupInUse, BackupNeeded)):
        backups.delete(source["backup_id"], "old", confirm=source["backup_id"])
    with pytest.raises(BackupNeeded):
        backups.delete(newer, "old", confirm=newer)
    used = live.events_about(BACKUP_EVENTS, ev.RESTORE_USES, ended["restore_id"])
    assert used[0]["state"] == "asked"
    eventually(
        lambda: backups.get(source["backup_id"])["restores"][ended["restore_id"]]["undo_until"],
        "the end of the restore is told",
    )
    for backup_id in (source["backup_id"], newer):
        with pytest.raises(BackupNeeded):
            backups.delete(backup_id, "old", confirm=backup_id)
    assert backups.delete(older, "old", confirm=older)["state"] == "purged"
