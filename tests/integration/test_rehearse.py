"""A rehearsal proves what a restore would give, and the instance notices nothing of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as backup_events
from restore_service import events as restore_events
from restore_service.commands import REHEARSE_RESTORE
from restore_service.rehearsal import events as ev
from shared.archive.age import parse_recipient, seal
from shared.client.restores import sealed_command
from shared.errors import (
    ArchiveDamaged,
    CrossesRestore,
    DependentObjects,
    LogGap,
    LogLost,
    NotFoundError,
    RehearsalDiffers,
    RehearsalNotFound,
    SealedKeyRefused,
    TargetMismatch,
    UsageError,
    WrongKeyOrHeader,
)
from shared.instance.sample.live import LiveWriter
from shared.messages import SigningKey, sign
from shared.messages.topics import AUDIT, BACKUP_EVENTS, RESTORE_COMMANDS, RESTORE_EVENTS
from tests.documents import plain
from tests.integration.test_roll_forward import delete_before
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live
from tests.rehearsing import ask, rehearsed, scratch, shown_rehearsal


@contextmanager
def changed(live: Live, change: str, back: str) -> Iterator[None]:
    """Change the store behind the projector's back, and undo that."""
    with live.admin() as conn:
        assert conn.execute(change.encode()).rowcount > 0
        yield
        conn.execute(back.encode())


def test_a_good_backup_is_proven_twice_and_the_instance_is_as_it_was(live: Live) -> None:
    live.write(60)
    backup, key = live.backup()
    live.write(20, seed=2)
    before = live.state()

    ended = rehearsed(live, backup, key)

    assert (ended["state"], ended["outcome"]) == ("rehearsed", "restorable"), ended
    proof = ended["proof"]
    assert (proof["digest"], proof["equal"], proof["equivalent"]) == (backup["digest"], True, True)
    assert proof["equivalence"]["digest"] == backup["digest"]
    assert proof["equivalence"]["applied"] > 1000
    assert ended["rows"] == sum(table["rows"] for table in backup["tables"].values())
    assert (ended["sha256"], ended["size_bytes"]) == (backup["sha256"], backup["size_bytes"])
    assert {"check", "load", "indexes", "compare", "prepare", "fold"} <= set(ended["durations"])
    assert 0 < ended["estimate"]["writers_held_s"] < ended["estimate"]["restore_s"]
    assert ended["obstacles"] == []
    assert live.state() == before


def test_it_is_told_audited_and_stands_beside_the_backup_once(live: Live) -> None:
    backup, key = live.backup()
    assert live.services.backups.get(backup["backup_id"])["rehearsed_at"] is None
    ended = rehearsed(live, backup, key)
    (told,) = live.events_about(RESTORE_EVENTS, ev.REHEARSED, ended["rehearsal_id"])
    assert (told["backup_id"], told["sha256"]) == (backup["backup_id"], backup["sha256"])
    assert told["proof"] == ended["proof"]

    shown = shown_rehearsal(live, backup, ended)
    assert shown["rehearsal"]["outcome"] == "restorable"
    assert shown["rehearsal"]["equivalent"] is True
    assert shown["rehearsed_at"] >= ended["requested_at"][:19]
    # The same event again, as a relay may send it, and others behind it.
    (again,) = [
        event
        for event in live.messages(RESTORE_EVENTS)
        if event.type == ev.REHEARSED and ended["rehearsal_id"].encode() in event.data
    ]
    live.send(RESTORE_EVENTS, again, user="restore")
    later = rehearsed(live, backup, key, fold_log=False)
    assert shown_rehearsal(live, backup, later)["rehearsal"]["equivalent"] is None
    kind = backup_events.REHEARSED
    noted = live.events_about(BACKUP_EVENTS, kind, backup["backup_id"])
    assert [entry["rehearsal_id"] for entry in noted] == [
        ended["rehearsal_id"],
        later["rehearsal_id"],
    ]
    audited = [
        event for event in live.messages(AUDIT) if ended["rehearsal_id"].encode() in event.data
    ]
    assert len(audited) == 2
    done = live.stack.secryn("backup", "list")
    (listed,) = [
        found
        for found in json.loads(done.stdout)["backups"]
        if found["backup_id"] == backup["backup_id"]
    ]
    assert listed["rehearsal"]["outcome"] == "restorable"


def test_a_rehearsal_that_nobody_of_ours_told_of_is_not_believed(
    live: Live, tmp_path: Path
) -> None:
    backup, key = live.backup()
    ended = rehearsed(live, backup, key, fold_log=False)
    shown = shown_rehearsal(live, backup, ended)
    (genuine,) = [
        event
        for event in live.messages(RESTORE_EVENTS)
        if event.type == ev.REHEARSED and ended["rehearsal_id"].encode() in event.data
    ]
    other = json.loads(genuine.data) | {"rehearsal_id": str(uuid4()), "outcome": "differs"}
    forger = SigningKey.create(tmp_path / "forger.key")
    for key_of, issuer in ((forger, "restore_service"), (live.operator(), "operator")):
        event = type(genuine)(ev.REHEARSED, "/forged", json.dumps(other).encode())
        forged = sign(event, key_of, issuer)
        live.send(RESTORE_EVENTS, forged, user="restore")
        eventually(partial(_audited, live, forged.id), "the refusal is audited")
    assert live.services.backups.get(backup["backup_id"]) == shown


def _audited(live: Live, identity: object) -> bool:
    return any(str(identity).encode() in event.data for event in live.messages(AUDIT))


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (
            "UPDATE instance.projects SET description = 'changed by hand' WHERE name = 'by hand'",
            "UPDATE instance.projects SET description = '' WHERE name = 'by hand'",
        ),
        (
            "INSERT INTO instance.projects (id, name, description, created_at, created_by) "
            "VALUES ('00000000-0000-0000-0000-00000000abcd', 'smuggled in', '', now(), 'nobody')",
            "DELETE FROM instance.projects WHERE name = 'smuggled in'",
        ),
    ],
)
def test_a_state_that_the_log_does_not_tell_is_found(live: Live, change: str, back: str) -> None:
    if "by hand" not in live.projects():
        live.add_project("by hand")
    with changed(live, change, back):
        backup, key = live.backup()
        ended = rehearsed(live, backup, key)
    assert (ended["state"], ended["outcome"]) == ("rehearsed", "differs")
    proof = ended["proof"]
    # It is what its manifest says; it is not what the log says.
    assert (proof["equal"], proof["equivalent"]) == (True, False)
    assert [entry["table"] for entry in proof["equivalence"]["differing"]] == ["projects"]
    shown = shown_rehearsal(live, backup, ended)["rehearsal"]
    assert (shown["outcome"], shown["differing"]) == ("differs", ["projects"])
    healed, healed_key = live.backup()
    assert rehearsed(live, healed, healed_key)["outcome"] == "restorable"


def test_writers_and_readers_go_on_and_no_fence_is_ever_raised(live: Live) -> None:
    backup, key = live.backup()
    before = live.position()
    over, fences = threading.Event(), list[int | None]()

    def watch() -> None:
        while not over.wait(0.02):
            fences.append(live.position().fence_no)

    watcher = threading.Thread(target=watch)
    watcher.start()
    outcomes: list[str] = []

    def rehearse() -> None:
        while not over.is_set():
            outcomes.append(rehearsed(live, backup, key)["outcome"])

    rehearsing = threading.Thread(target=rehearse)
    rehearsing.start()
    writer = LiveWriter(live.platform.writer, rate=100, seconds=4, seed=77)
    summary = writer.run()
    over.set()
    watcher.join()
    rehearsing.join()
    writer.wait_until_stored(20)
    after = live.position()
    assert summary.events > 50
    assert set(outcomes) == {"restorable"}
    assert len(fences) > 20
    assert set(fences) == {None}
    assert (after.highest_fence_no, after.epoch) == (before.highest_fence_no, before.epoch)


def test_with_a_roll_forward_it_ends_where_the_restore_would(live: Live) -> None:
    backup, key = live.backup()
    live.write(30, seed=5)
    end, offset = live.digest(), live.position().position
    live.write(10, seed=6)
    good = rehearsed(live, backup, key, roll_forward=offset, expect_digest=end)
    assert good["outcome"] == "restorable", good
    rolled = good["proof"]["roll_forward"]
    assert (rolled["digest"], rolled["equal"], rolled["to"]) == (end, True, offset)
    assert rolled["applied"] > 0
    assert good["proof"]["equivalent"] is True
    wrong = rehearsed(live, backup, key, roll_forward="latest", expect_digest=end)
    assert (wrong["outcome"], wrong["proof"]["roll_forward"]["equal"]) == ("differs", False)
    assert wrong["proof"]["equivalent"] is True
    asked = live.start(key, backup_id=backup["backup_id"], roll_forward=offset)
    restored = live.services.restores.wait(asked["restore_id"])
    assert (restored["state"], live.digest()) == ("restored", end)
    # It leaves room for a restore that comes meanwhile.
    needed = [plain(found)["checks"]["space"]["needed_bytes"] for found in (good, restored)]
    assert needed[0] == pytest.approx(2 * needed[1], abs=8)
    assert needed[1] > 0


def test_a_file_and_the_command_line(live: Live, tmp_path: Path) -> None:
    backup, key = live.backup()
    file, key_file = live.archive(backup, tmp_path), tmp_path / "key"
    key_file.write_text(key)
    options = ("--key-file", str(key_file), "--instance", live.instance_id)
    done = live.stack.secryn("restore", "rehearse", "--file", str(file), *options)
    ended = json.loads(done.stdout)
    assert (ended["outcome"], ended["backup_id"]) == ("restorable", backup["backup_id"])
    assert shown_rehearsal(live, backup, ended)["rehearsal"]["outcome"] == "restorable"
    with changed(
        live,
        "UPDATE instance.users SET display_name = display_name || '!'",
        "UPDATE instance.users SET display_name = left(display_name, -1)",
    ):
        other, other_key = live.backup()
    key_file.write_text(other_key)
    done = live.stack.secryn(
        "restore", "rehearse", "--backup", other["backup_id"], *options, check=False
    )
    assert done.returncode == RehearsalDiffers.exit_code
    assert json.loads(done.stdout)["outcome"] == "differs"
    assert RehearsalDiffers.code in done.stderr
    listed = json.loads(live.stack.secryn("restore", "rehearsal", "list").stdout)["rehearsals"]
    assert listed[0]["outcome"] == "differs"
    shown = live.stack.secryn("restore", "rehearsal", "show", ended["rehearsal_id"])
    assert json.loads(shown.stdout)["outcome"] == "restorable"


def test_a_wrong_key_or_a_damaged_object_is_a_failure_and_only_one_is_the_objects(
    live: Live,
) -> None:
    backup, key = live.backup()
    before = live.state()
    wrong = rehearsed(live, backup, live.backup()[1])
    assert (wrong["state"], wrong["error"]["code"]) == ("failed", WrongKeyOrHeader.code)
    file = Path(backup["location"].removeprefix("file:"))
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.chmod(0o600)
    file.write_bytes(content)
    damaged = rehearsed(live, backup, key)
    assert (damaged["state"], damaged["error"]["code"]) == ("failed", ArchiveDamaged.code)
    # The key that did not open it says nothing of the backup.
    shown = shown_rehearsal(live, backup, damaged)["rehearsal"]
    assert (shown["outcome"], shown["code"]) == ("failed", ArchiveDamaged.code)
    noted = live.events_about(BACKUP_EVENTS, backup_events.REHEARSED, backup["backup_id"])
    assert [entry["rehearsal_id"] for entry in noted] == [damaged["rehearsal_id"]]
    assert live.state() == before


def test_what_would_stop_a_restore_now_is_named_and_does_not_stop_the_rehearsal(live: Live) -> None:
    backup, key = live.backup()
    with live.admin() as conn:
        conn.execute("CREATE VIEW public.outside AS SELECT name FROM instance.projects")
        ended = rehearsed(live, backup, key, fold_log=False)
        conn.execute("DROP VIEW public.outside")
    assert ended["outcome"] == "restorable"
    (obstacle,) = ended["obstacles"]
    assert obstacle["code"] == DependentObjects.code
    assert "outside" in obstacle["message"]


def test_a_command_over_kafka_rehearses_once_however_often_it_comes(live: Live) -> None:
    backup, key = live.backup()
    command = sealed(live, backup, key)
    for _ in range(3):
        live.command(RESTORE_COMMANDS, REHEARSE_RESTORE, command)
    (requested,) = live.events_about(RESTORE_EVENTS, ev.REQUESTED, command["command_id"])
    ended = live.services.rehearsals.wait(requested["rehearsal_id"])
    assert ended["outcome"] == "restorable"
    again = live.services.rehearsals.connection.call("POST", "/api/v1/rehearsals", command)
    assert again["rehearsal_id"] == ended["rehearsal_id"]
    assert len(live.events_about(RESTORE_EVENTS, ev.REQUESTED, command["command_id"])) == 1
    assert "runner" not in ended
    assert "sealed_key" not in ended


def sealed(live: Live, backup: Json, key: str, action: str | None = "rehearse") -> Json:
    return sealed_command(
        live.services.rehearsals.connection,
        target_instance_id=live.instance_id,
        key_file_text=key,
        reason="a test",
        backup_id=backup["backup_id"],
        upload=None,
        action=action,
    )


def test_a_key_that_was_sealed_for_a_rehearsal_starts_no_restore(live: Live) -> None:
    backup, key = live.backup()
    before = live.state()
    connection = live.services.rehearsals.connection
    for path, action in (("restores", "rehearse"), ("rehearsals", None), ("rehearsals", "restore")):
        with pytest.raises(SealedKeyRefused):
            connection.call("POST", f"/api/v1/{path}", sealed(live, backup, key, action))
    recipient = connection.call("GET", "/api/v1/recipient")["recipient"]
    nonsense = seal(b"[]", [parse_recipient(recipient)]).hex()
    with pytest.raises(SealedKeyRefused):
        connection.call(
            "POST",
            "/api/v1/rehearsals",
            sealed(live, backup, key) | {"sealed_key": nonsense},
        )
    assert live.state() == before
    assert live.services.rehearsals.list()["rehearsals"][0]["state"] != "requested"


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"target_instance_id": str(uuid4())}, TargetMismatch),
        ({"backup_id": str(uuid4())}, NotFoundError),
        ({"expect_digest": "0" * 64}, UsageError),
        ({"expect_digest": "short", "roll_forward": "latest"}, UsageError),
        ({"roll_forward": "soon"}, UsageError),
        ({"next_backup_id": str(uuid4()), "roll_forward": "latest"}, UsageError),
    ],
)
def test_bad_input_is_refused_by_name(live: Live, named: Json, error: type[Exception]) -> None:
    backup, key = live.backup()
    with pytest.raises(error):
        ask(live, backup, key, **named)
    with pytest.raises(RehearsalNotFound):
        live.services.rehearsals.get(str(uuid4()))
    with pytest.raises(RehearsalNotFound):
        live.services.rehearsals.cancel("no id")


def test_where_the_log_cannot_tell_the_reason_is_named(
    live: Live, empty_live: Live, tmp_path: Path
) -> None:
    here = empty_live
    here.add_project("before the other instance")
    foreign, foreign_key = live.backup()
    file = live.archive(foreign, tmp_path)
    uploaded: dict[str, Any] = {"source_instance_id": live.instance_id}
    brought = rehearsed(
        here, foreign, foreign_key, upload=here.services.restores.upload(file), **uploaded
    )
    assert_cannot_tell(brought, LogLost.code)
    assert here.restore_file(file, foreign_key, **uploaded)["state"] == "restored"
    late, late_key = here.backup()
    assert_cannot_tell(rehearsed(here, late, late_key), CrossesRestore.code)
    early_end = here.position().position
    here.add_project("behind the other instance's")
    last, last_key = here.backup()
    delete_before(here, early_end)
    assert_cannot_tell(rehearsed(here, last, last_key), LogGap.code)


def assert_cannot_tell(ended: Json, code: str) -> None:
    proof = ended["proof"]
    assert (ended["outcome"], proof["equal"], proof["equivalent"]) == ("restorable", True, None)
    assert proof["equivalence"]["reason"]["code"] == code, ended


def test_the_rehearsals_do_not_stand_among_the_restores(live: Live) -> None:
    backup, key = live.backup()
    ended = rehearsed(live, backup, key, fold_log=False)
    assert not scratch(live)
    restores = live.services.restores.list()["restores"]
    assert ended["rehearsal_id"] not in [found["restore_id"] for found in restores]
    assert live.services.rehearsals.list()["rehearsals"][0] == ended
    assert restore_events.REQUESTED != ev.REQUESTED
