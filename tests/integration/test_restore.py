"""A restore replaces the whole instance, exactly, once; and tells every consumer."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from restore_service import events as ev
from restore_service.commands import RESTORE_INSTANCE
from shared.archive.age import HybridIdentity, parse_recipient, seal
from shared.errors import EpochChanged, RestoreInProgress, SecrynError
from shared.instance.events import ProjectCreated, Restored, RestoreStarted
from shared.messages import CloudEvent, SigningKey, sign
from shared.messages.topics import (
    BACKUP_COMMANDS,
    INSTANCE_EVENTS,
    RESTORE_COMMANDS,
    RESTORE_EVENTS,
)
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def sealed_command(live: Live, backup: Json, key: str, **changed: object) -> Json:
    """Build a command as a platform service does, from the recipient that is published."""
    published = [e for e in live.messages(RESTORE_EVENTS) if e.type == ev.RECIPIENT_PUBLISHED]
    recipient = json.loads(published[-1].data)["recipient"]
    body = {
        "command_id": str(uuid4()),
        "target_instance_id": live.instance_id,
        "backup_id": backup["backup_id"],
    }
    sealed = seal(json.dumps(body | {"key": key}).encode(), [parse_recipient(recipient)])
    return body | {"sealed_key": sealed.hex(), "reason": "over Kafka"} | changed


def test_the_instance_is_exactly_what_it_was(live: Live) -> None:
    live.add_project("before the backup")
    backup, key = live.backup()
    digest, projects = live.digest(), live.projects()
    assert live.write(60) > 20
    live.add_project("after the backup")
    assert live.digest() != digest
    epoch = live.position().epoch

    restore = live.restore(backup, key)

    assert restore["state"] == "restored", restore
    assert live.digest() == digest == backup["digest"]
    assert live.projects() == projects
    assert live.position().epoch == epoch + 1
    assert restore["proof"]["equal"]
    assert restore["checks"]["trusted_by"] == "signer"


def test_life_goes_on_after_it(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("to be undone")
    assert live.restore(backup, key)["state"] == "restored"
    live.add_project("life goes on")
    assert "life goes on" in live.projects()
    assert "to be undone" not in live.projects()
    assert not live.position().fenced
    again, _ = live.backup()
    assert again["epoch"] == live.position().epoch
    assert again["digest"] == live.digest()


def test_the_log_tells_every_consumer_what_happened(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("unwanted, replaced")
    restore = live.restore(backup, key)
    started, restored = (
        live.events_about(INSTANCE_EVENTS, kind, restore["restore_id"])[0]
        for kind in (RestoreStarted.TYPE, Restored.TYPE)
    )
    assert started["fence_no"] == restored["fence_no"]
    assert started["backup_id"] == restored["backup_id"] == backup["backup_id"]
    assert restored["fence_offset"] == restore["fence_offset"]
    assert restored["epoch"] == restore["epoch"]
    assert restored["source"] == {
        "cluster_id": backup["cluster_id"],
        "topic_id": backup["topic_id"],
        "snapshot_offset": backup["offset"],
        "position": backup["offset"],
    }
    (completed,) = live.events_about(RESTORE_EVENTS, ev.COMPLETED, restore["restore_id"])
    assert completed["proof"]["digest"] == backup["digest"]


def test_what_was_written_before_the_restore_with_the_old_view_is_refused_once(live: Live) -> None:
    live.add_project("the writer knows this epoch")
    backup, key = live.backup()
    live.restore(backup, key)
    with pytest.raises(EpochChanged):
        live.platform.writer.append(_project("prepared before"))
    written = live.platform.writer.append(_project("prepared after"))
    live.platform.writer.wait_until_stored(written, 20)
    assert "prepared after" in live.projects()


def _project(name: str) -> ProjectCreated:

    return ProjectCreated(id=uuid4(), name=name)


def test_a_command_over_kafka_restores_once_however_often_it_comes(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("away with it")
    command = sealed_command(live, backup, key)
    for _ in range(3):
        live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, command)
    (requested,) = live.events_about(RESTORE_EVENTS, ev.REQUESTED, command["command_id"])
    restore_id = requested["restore_id"]
    assert live.services.restores.wait(restore_id)["state"] == "restored"
    epoch = live.position().epoch
    live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, command)
    eventually(lambda: _consumed(live), "the command came again")
    assert live.position().epoch == epoch
    live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, command | {"reason": "another"})

    def refused() -> list[str]:
        told = [e.data for e in live.messages(RESTORE_EVENTS) if e.type == ev.REJECTED]
        named = [data for data in told if command["command_id"].encode() in data]
        return [json.loads(data)["code"] for data in named]

    assert eventually(refused, "another command under its id is refused") == ["command.reused"]
    assert len(live.events_about(INSTANCE_EVENTS, Restored.TYPE, restore_id)) == 1
    assert live.digest() == backup["digest"]


def _consumed(live: Live) -> bool:
    """Tell whether a command sent now was answered: those before it were worked off."""
    sent = live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, {"tables": ["a marker"]})
    live.events_about(RESTORE_EVENTS, ev.REJECTED, sent.id)
    return True


def test_the_key_sealed_for_one_command_opens_no_other(live: Live) -> None:
    backup, key = live.backup()
    other, _ = live.backup()
    before = live.state()
    command = sealed_command(live, backup, key)
    for changed in (
        {"command_id": str(uuid4())},
        {"backup_id": other["backup_id"]},
    ):
        with pytest.raises(SecrynError) as refused:
            live.services.restores.connection.call("POST", "/api/v1/restores", command | changed)
        assert refused.value.code == "restore.sealed_key_refused"
    assert live.state() == before


def test_a_command_without_a_key_or_with_what_is_none_is_rejected_with_its_code(live: Live) -> None:
    backup, key = live.backup()
    before = live.state()
    command = sealed_command(live, backup, key)
    body = {name: command[name] for name in ("command_id", "target_instance_id", "backup_id")}
    stranger = HybridIdentity.generate().to_recipient()
    wrong = {
        "without": (None, "usage.invalid"),
        "not hex": ("AGE-SECRET-KEY-PQ-1", "usage.invalid"),
        "not sealed": ("00ff", "restore.sealed_key_refused"),
        "cut short": (command["sealed_key"][:-2], "restore.sealed_key_refused"),
        "sealed to somebody else": (
            seal(json.dumps(body | {"key": key}).encode(), [stranger]).hex(),
            "restore.sealed_key_refused",
        ),
    }
    sent = {}
    for name, (sealed, _) in wrong.items():
        changed = {k: v for k, v in command.items() if k != "sealed_key"}
        changed |= {} if sealed is None else {"sealed_key": sealed}
        sent[name] = live.command(RESTORE_COMMANDS, RESTORE_INSTANCE, changed)
    for name, (_, code) in wrong.items():
        (rejected,) = live.events_about(RESTORE_EVENTS, ev.REJECTED, sent[name].id)
        assert (rejected["code"], name) == (code, name)
        assert rejected["hint"]
    assert live.state() == before


@pytest.mark.parametrize("topic", [RESTORE_COMMANDS, BACKUP_COMMANDS])
def test_a_forged_or_unsigned_command_changes_nothing_and_is_audited(
    live: Live, topic: str, tmp_path: Path
) -> None:
    backup, key = live.backup()
    before = live.state()
    stored = live.services.backups.list()
    forger = SigningKey.create(tmp_path / "forger.key")
    command = (
        sealed_command(live, backup, key)
        if topic == RESTORE_COMMANDS
        else {"command_id": str(uuid4()), "reason": "forged"}
    )
    kind = RESTORE_INSTANCE if topic == RESTORE_COMMANDS else "com.secryn.backup.create.v1"
    forged = [
        live.command(topic, kind, command, key=forger),
        live.command(topic, kind, command, issuer="restore_service"),
        live.command(topic, kind, command, key=forger, issuer="nobody"),
    ]
    for event in forged:
        eventually(partial(_audited, live, event.id), "the refusal is audited")
    assert live.state() == before
    assert live.services.backups.list() == stored


def _audited(live: Live, identity: object) -> bool:
    return any(str(identity).encode() in event.data for event in live.messages("audit"))


def test_a_restore_event_that_the_service_did_not_sign_changes_nothing(
    live: Live, tmp_path: Path
) -> None:

    before = live.state()
    forger = SigningKey.create(tmp_path / "forger.key")
    started = RestoreStarted(restore_id=uuid4(), fence_no=10_000, backup_id=uuid4())
    event = CloudEvent(
        type=RestoreStarted.TYPE, source="/forged", data=started.model_dump_json().encode()
    )
    for forged in (
        event,
        sign(event, forger, "restore_service"),
        sign(event, live.operator(), "operator"),
    ):
        # The platform may write to this topic: only the signature is missing.
        live.send(INSTANCE_EVENTS, forged)
    marker = live.add_project("after the forgery")
    assert marker
    after = live.position()
    assert not after.fenced
    assert after.highest_fence_no == before[2].highest_fence_no
    assert after.epoch == before[2].epoch


def test_two_restores_at_once_never_run_together(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("either way it goes")
    epoch = live.position().epoch
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append(str(live.restore(backup, key)["state"]))
        except RestoreInProgress:
            outcomes.append("refused")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    restored = outcomes.count("restored")
    assert restored >= 1
    assert restored + outcomes.count("refused") == 4
    assert live.position().epoch == epoch + restored
    assert live.digest() == backup["digest"]


def test_a_backup_is_refused_while_the_fence_stands_and_the_restore_waits_for_a_running_one(
    live: Live,
) -> None:
    backup, key = live.backup()
    with live.admin() as blocking:
        with blocking.transaction():
            # The backup's readers wait for this lock: it is running.
            blocking.execute("LOCK TABLE instance.secret_versions IN ACCESS EXCLUSIVE MODE")
            running = live.services.backups.create("while a restore wants in")["backup_id"]
            eventually(
                lambda: live.services.backups.get(running).get("step") == "writing the archive",
                "the backup reads",
            )
            asked = live.start(key, backup_id=backup["backup_id"])["restore_id"]
            eventually(
                lambda: (
                    live.services.restores.get(asked).get("step") == "waiting for a running backup"
                ),
                "the restore waits",
            )
            assert not live.position().fenced
        assert live.services.backups.wait(running)["state"] == "created"
    assert live.services.restores.wait(asked)["state"] == "restored"


def test_grants_owner_and_policies_are_the_same_after_it(live: Live) -> None:
    with live.admin() as conn:
        conn.execute("DROP ROLE IF EXISTS auditor")
        conn.execute("CREATE ROLE auditor LOGIN")
        conn.execute("GRANT USAGE ON SCHEMA instance TO auditor")
        conn.execute("GRANT SELECT (id, name) ON instance.projects TO auditor")
        conn.execute("GRANT SELECT ON instance.settings TO auditor WITH GRANT OPTION")
        before = _rights(conn)
        backup, key = live.backup()
        assert live.restore(backup, key)["state"] == "restored"
        assert _rights(conn) == before


def _rights(conn: psycopg.Connection[tuple[object, ...]]) -> list[object]:
    found: list[object] = []
    for query in (
        "SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname = 'instance'",
        "SELECT relname::text, relowner::regrole::text, array_to_string(ARRAY(SELECT unnest(relacl)"
        "::text ORDER BY 1), ',') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = 'instance' AND relkind = 'r' ORDER BY 1",
        "SELECT relname::text, attname::text, attacl::text FROM pg_attribute JOIN pg_class c "
        "ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = 'instance' AND attacl IS NOT NULL ORDER BY 1, 2",
    ):
        found += conn.execute(query.encode()).fetchall()
    return found
