"""A backup: asked for in three ways, made once, whole, proven; or failed with nothing left."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.commands import CREATE_BACKUP
from backup_service.configuration.commands import CONFIGURE
from deploy.embedded.folder import open_state
from shared.archive.keyfile import KeyFile
from shared.archive.reader import open_archive
from shared.errors import (
    CommandReused,
    ConfigurationChanged,
    PartialScope,
    PreconditionMissing,
    SecrynError,
    UsageError,
)
from shared.messages.topics import AUDIT, BACKUP_COMMANDS, BACKUP_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live

BackupsFolder = Callable[[], list[str]]


REASON = "asked for more than once"


@pytest.fixture
def objects(live: Live) -> Callable[[], list[str]]:
    """Return what lies in the storage."""
    return lambda: sorted(path.name for path in (live.stack.state / "backups").iterdir())


def by_http(live: Live, command_id: str) -> None:
    live.services.backups.create(REASON, command_id=command_id)


def by_kafka(live: Live, command_id: str) -> None:
    live.command(BACKUP_COMMANDS, CREATE_BACKUP, {"command_id": command_id, "reason": REASON})


@pytest.mark.parametrize("ask", [by_http, by_kafka])
def test_a_command_makes_one_proven_backup_however_often_it_comes(
    live: Live, ask: Callable[[Live, str], None]
) -> None:
    command_id = str(uuid4())
    for _ in range(3):
        ask(live, command_id)
    (created,) = live.events_about(BACKUP_EVENTS, ev.CREATED, _backup_of(live, command_id))
    ask(live, command_id)
    answered = live.services.backups.create(REASON, command_id=command_id)
    assert answered["state"] == "created"
    assert answered["backup_id"] == created["backup_id"]
    asked = live.events_about(BACKUP_EVENTS, ev.REQUESTED, command_id)
    assert len(asked) == 1


def test_another_command_under_the_id_of_an_earlier_one_is_refused(live: Live) -> None:
    command_id = str(uuid4())
    asked = live.services.backups.create(REASON, command_id=command_id)
    for reason, at_position in (("another", False), (REASON, True)):
        with pytest.raises(CommandReused, match="came before"):
            live.services.backups.create(reason, command_id=command_id, at_position=at_position)
    assert live.services.backups.wait(asked["backup_id"])["reason"] == REASON


def _backup_of(live: Live, command_id: str) -> str:
    (asked,) = live.events_about(BACKUP_EVENTS, ev.REQUESTED, command_id)
    return str(asked["backup_id"])


def test_the_command_line_prints_one_document_with_the_key(live: Live, tmp_path: Path) -> None:
    done = live.stack.secryn("backup", "create", "--wait", "--reason", "by hand")
    backup = json.loads(done.stdout)
    assert backup["state"] == "created"
    assert KeyFile.parse(backup["key"]).backup_id == backup["backup_id"]
    assert backup["key"] not in done.stderr

    key_file = tmp_path / "key.txt"
    done = live.stack.secryn("backup", "create", "--wait", "--key-file", str(key_file))
    assert "AGE-SECRET-KEY" not in done.stdout + done.stderr
    assert key_file.stat().st_mode & 0o777 == 0o600
    parsed = KeyFile.parse(key_file.read_text())
    assert parsed.backup_id == json.loads(done.stdout)["backup_id"]
    refused = live.stack.refusal("backup", "create", "--wait", "--key-file", str(key_file))
    assert refused["code"] == UsageError.code


def test_backup_created_says_what_a_restore_and_an_archiver_need(live: Live) -> None:
    backup, _ = live.backup()
    (created,) = live.events_about(BACKUP_EVENTS, ev.CREATED, backup["backup_id"])
    position = live.position()
    assert created["instance_id"] == live.instance_id
    assert (created["epoch"], created["offset"]) == (position.epoch, position.position)
    assert (created["cluster_id"], created["topic_id"]) == (position.cluster_id, position.topic_id)
    stored = live.stack.state / "backups" / f"{backup['backup_id']}.age"
    assert created["size_bytes"] == stored.stat().st_size
    assert created["location"].endswith(stored.name)
    assert created["digest"] == live.digest()
    assert created["proven_at"]
    assert created["requested_by"] == "operator"
    assert created["reason"] == "a test"


def test_every_table_of_the_schema_is_in_it(live: Live, tmp_path: Path) -> None:
    backup, key = live.backup()
    with live.admin() as conn:
        rows = conn.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'instance'"
        ).fetchall()
    with live.archive(backup, tmp_path).open("rb") as source:
        archive = open_archive(source, [KeyFile.parse(key).identity])
        for _ in archive.parts():
            pass
    assert set(archive.manifest.tables) == {row[0] for row in rows} - {"log_position"}


def test_a_table_that_no_restore_would_know_is_named_and_never_left_out(
    live: Live, objects: Callable[[], list[str]]
) -> None:
    before = objects()
    with live.admin() as conn:
        conn.execute("CREATE TABLE instance.added_by_hand (id int PRIMARY KEY)")
        try:
            asked = live.services.backups.create("a strange table")
            failed = live.services.backups.wait(asked["backup_id"])
        finally:
            conn.execute("DROP TABLE instance.added_by_hand")
    assert failed["state"] == "failed"
    assert "added_by_hand" in plain(failed["error"])["message"]
    assert objects() == before


def test_two_requests_at_once_are_two_whole_backups(live: Live) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: live.backup()[0], range(2)))
    assert len({backup["backup_id"] for backup in made}) == 2
    assert len({backup["digest"] for backup in made}) == 1


@pytest.mark.parametrize("part", ["project", "vaults", "tables", "path"])
def test_a_part_of_the_instance_is_refused(
    live: Live, part: str, objects: Callable[[], list[str]]
) -> None:
    before = objects()
    body = {"command_id": str(uuid4()), "reason": "a part", part: "payments"}
    with pytest.raises(PartialScope):
        live.services.backups.connection.call("POST", "/api/v1/backups", body)
    sent = live.command(BACKUP_COMMANDS, CREATE_BACKUP, body)
    (rejected,) = live.events_about(BACKUP_EVENTS, ev.REJECTED, sent.id)
    assert rejected["code"] == PartialScope.code
    assert objects() == before


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": 7}, {"reason": "x", "surprise": 1}, [], "text"]
)
def test_a_malformed_request_is_refused_and_changes_nothing(
    live: Live, body: Any, objects: Callable[[], list[str]]
) -> None:
    before = objects()
    connection = live.services.backups.connection
    with pytest.raises(UsageError) as refused:
        connection.call("POST", "/api/v1/backups", body)
    assert "Traceback" not in str(refused.value)
    assert objects() == before


def test_a_backup_that_cannot_read_everything_fails_and_leaves_nothing(
    live: Live, objects: Callable[[], list[str]]
) -> None:
    before = objects()
    with live.admin() as conn:
        conn.execute("REVOKE SELECT ON instance.secrets FROM secryn_backup")
        owner = conn.execute(
            "SELECT tableowner FROM pg_tables WHERE schemaname = 'instance' LIMIT 1"
        ).fetchone()
        assert owner is not None
        conn.execute("CREATE ROLE stranger_owner")
        conn.execute("ALTER TABLE instance.secrets OWNER TO stranger_owner")
        conn.execute("REVOKE ALL ON instance.secrets FROM secryn_projector")
        try:
            asked = live.services.backups.create("it cannot be read")
            failed = live.services.backups.wait(asked["backup_id"])
        finally:
            conn.execute(f'ALTER TABLE instance.secrets OWNER TO "{owner[0]}"')
            conn.execute("GRANT SELECT ON instance.secrets TO secryn_backup")
            conn.execute("DROP ROLE stranger_owner")
    assert failed["state"] == "failed"
    assert plain(failed["error"])["code"].startswith("backup.")
    (told,) = live.events_about(BACKUP_EVENTS, ev.FAILED, asked["backup_id"])
    assert told["error"] == failed["error"]
    assert objects() == before
    assert live.backup()[0]["state"] == "created"


def test_nothing_of_the_content_is_readable_in_the_stored_object(live: Live) -> None:
    backup, key = live.backup()
    stored = (live.stack.state / "backups" / f"{backup['backup_id']}.age").read_bytes()
    identity = next(line for line in key.splitlines() if line.startswith("AGE-SECRET-KEY"))
    for name in (b"secret_versions", b"backup.json", b"schema.sql", identity.encode()):
        assert name not in stored
    assert stored.startswith(b"age-encryption.org/v1\n-> mlkem768x25519 ")


def test_a_backup_killed_in_the_middle_ends_failed_with_nothing_left(
    live: Live, objects: Callable[[], list[str]]
) -> None:
    before = objects()
    with live.admin() as blocking, blocking.transaction():
        # Its readers wait for this lock: that is the middle.
        blocking.execute("LOCK TABLE instance.secret_versions IN ACCESS EXCLUSIVE MODE")
        asked = live.services.backups.create("to be killed")["backup_id"]
        eventually(
            lambda: live.services.backups.get(asked).get("step") == "writing the archive",
            "the archive is being written",
        )
        live.stack.kill("backup")
    live.stack.wait_healthy()
    ended = live.services.backups.wait(asked)
    assert (ended["state"], plain(ended["error"])["code"]) == ("failed", "interrupted")
    assert objects() == before
    # Short transactions of the service itself come and go.
    eventually(lambda: _open_snapshots(live) == 0, "no snapshot is open")
    assert live.backup()[0]["state"] == "created"


def test_a_service_told_to_stop_finishes_the_backup_in_hand(live: Live) -> None:
    with live.admin() as blocking, blocking.transaction():
        blocking.execute("LOCK TABLE instance.secret_versions IN ACCESS EXCLUSIVE MODE")
        asked = live.services.backups.create("in hand")["backup_id"]
        eventually(
            lambda: live.services.backups.get(asked).get("step") == "writing the archive",
            "the archive is being written",
        )
        os.kill(live.stack.pids()["backup"], signal.SIGTERM)
        time.sleep(1.0)
    live.stack.wait_healthy()
    assert live.services.backups.wait(asked)["state"] == "created"


def _open_snapshots(live: Live) -> int:
    with live.admin() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'secryn_backup' "
            "AND state = 'idle in transaction' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_running_backup_can_be_cancelled(live: Live, objects: Callable[[], list[str]]) -> None:
    before = objects()
    with live.admin() as blocking:
        with blocking.transaction():
            blocking.execute("LOCK TABLE instance.secret_versions IN ACCESS EXCLUSIVE MODE")
            asked = live.services.backups.create("to be cancelled")["backup_id"]
            live.services.backups.cancel(asked)
        ended = live.services.backups.wait(asked)
    assert ended["state"] == "cancelled"
    assert objects() == before
    with pytest.raises(SecrynError, match="has ended"):
        live.services.backups.cancel(asked)


def test_verify_finds_an_altered_object_without_the_key(live: Live) -> None:
    backup, _ = live.backup()
    verify = live.services.backups.verify
    assert verify(backup["backup_id"])["intact"]
    stored = live.stack.state / "backups" / f"{backup['backup_id']}.age"
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.write_bytes(data)
    found = verify(backup["backup_id"])
    assert (found["intact"], found["code"]) == (False, "archive.altered")
    stored.unlink()
    assert verify(backup["backup_id"])["code"] == "storage.not_found"


def test_every_action_and_refusal_is_audited(live: Live) -> None:
    backup, _ = live.backup()

    def entries() -> list[Json]:
        bodies = [json.loads(event.data) for event in live.messages(AUDIT)]
        return [body for body in bodies if backup["backup_id"] in json.dumps(body)]

    eventually(lambda: len(entries()) >= 3, "asked, created and viewed are audited")
    actions = [entry["api"]["operation"] for entry in entries()]
    assert actions[:3] == ["backup.create", "backup.created", "key.view"]


def test_the_audit_trail_is_listed_taken_away_and_verified_with_and_without_the_services(
    live: Live, tmp_path: Path
) -> None:
    backup, _ = live.backup()
    audit = ("audit", "list", "--action", "key", "--resource", backup["backup_id"])
    found = json.loads(live.stack.secryn(*audit).stdout)
    assert [entry["api"]["operation"] for entry in found["entries"]] == ["key.view"]
    report = json.loads(live.stack.secryn("audit", "verify").stdout)
    assert [chain["service"] for chain in report["chains"]] == ["backup_service", "restore_service"]
    assert report["intact"] and all(chain["intact"] for chain in report["chains"])
    kept, file = tmp_path / "kept", tmp_path / "audit.jsonl"
    kept.write_text(report["chains"][0]["checkpoint"])
    live.stack.secryn("audit", "export", "-o", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    keys = open_state(live.stack.state).key("issuers.toml")
    offline = ("audit", "verify", "--file", str(file), "--keys", str(keys))
    found = json.loads(live.stack.secryn(*offline, "--checkpoint", str(kept)).stdout)
    assert found["intact"] and found["chains"][0]["entries"] > report["chains"][0]["entries"]
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:3] + lines[4:]))
    cut = live.stack.secryn(*offline, check=False)
    assert (cut.returncode, json.loads(cut.stdout)["chains"][0]["bad_seq"]) == (6, 4)


def test_the_schedule_is_set_shown_and_run_from_the_command_line(live: Live) -> None:
    zone = ("--zone", "Europe/Berlin", "--weekday", "sunday", "--at", "02:30", "--enable")
    done = json.loads(live.stack.secryn("schedule", "set", *zone, "--reason", "nightly").stdout)
    assert (done["value"]["frequency"], done["value"]["weekday"]) == ("weekly", "sunday")
    shown = json.loads(live.stack.secryn("schedule", "show").stdout)
    assert (len(shown["next_runs"]), shown["confirmed"]) == (10, True)
    stale = live.stack.secryn(
        "schedule", "set", "--at", "03:00", "--if-match", "0" * 32, check=False
    )
    assert (stale.returncode, "configuration.changed" in stale.stdout) == (4, True)
    refused = live.stack.secryn("schedule", "set", "--cron", "0 0 2 * * *", check=False)
    assert (refused.returncode, "'0 2 * * *'" in refused.stdout) == (2, True)
    never = live.stack.secryn("schedule", "set", "--after-events", "0", check=False)
    assert (never.returncode, "write 1 or more" in never.stdout) == (2, True)
    run = json.loads(live.stack.secryn("schedule", "run", "--wait").stdout)
    assert (run["state"], run["requested_by"]) == ("created", "operator")
    assert live.services.backups.get(run["backup_id"])["key_state"] == "waiting"
    live.services.backups.view_key(run["backup_id"])
    point = {"backup_id": run["backup_id"], "events": 0, "seconds": 0}
    status = json.loads(live.stack.secryn("status").stdout)
    assert status["protection"]["recovery_point"] == point
    assert live.services.backups.list()["recovery_point"] == point


def test_a_standing_setting_is_changed_with_its_etag_alone(live: Live) -> None:
    connection = live.services.backups.connection
    path = "/api/v1/configuration/staleness"
    now = connection.call("GET", path)
    body: Json = {"command_id": str(uuid4()), "value": {"within_s": 86_400}}
    with pytest.raises(PreconditionMissing):
        connection.call("PUT", path, body)
    changed = connection.call("PUT", path, body, if_match=now["etag"])
    assert (changed["value"], changed["changed_by"]) == ({"within_s": 86_400}, "operator")
    assert connection.call("PUT", path, body, if_match=changed["etag"]) == changed
    with pytest.raises(CommandReused):
        other: Json = body | {"value": {"within_s": 172_800}}
        connection.call("PUT", path, other, if_match=changed["etag"])
    with pytest.raises(ConfigurationChanged):
        again: Json = body | {"command_id": str(uuid4())}
        connection.call("PUT", path, again, if_match=now["etag"])
    (told,) = live.events_about(BACKUP_EVENTS, ev.CONFIGURED, "staleness")
    assert told["value"] == {"within_s": 86_400}
    command: Json = {"command_id": str(uuid4()), "if_match": "*", "value": {"within_s": 10}}
    live.command(BACKUP_COMMANDS, CONFIGURE["staleness"], command)
    eventually(
        lambda: [e for e in live.messages(BACKUP_EVENTS) if e.type == ev.REJECTED
                 and b"within_s" in e.data],
        "the command is refused",
    )  # fmt: skip
    assert connection.call("GET", path) == changed


def test_the_commands_of_the_schedule_page_run(live: Live) -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedule.md").read_text(encoding="utf-8")
    block = page.partition("<!-- commands -->\n```sh\n")[2].partition("```")[0]
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) > 5
    for program, *arguments in commands:
        assert program == "secryn"
        live.stack.secryn(*arguments)
    value = live.services.configuration.get("schedule")["value"]
    assert (value["frequency"], value["day"], value["missed"]) == ("monthly", 31, "skip")
