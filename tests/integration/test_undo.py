"""Undo puts back what the last restore replaced, and can itself be undone."""

from __future__ import annotations

from uuid import uuid4

import pytest

from restore_service import events as ev
from restore_service.staging import before_name
from shared.archive.age import HybridIdentity
from shared.errors import NotUndoable, RestoreNotFound, SecrynError, TargetMismatch
from shared.instance.events import Restored
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def undo(live: Live, restore: Json | None = None) -> Json:
    asked = live.services.restores.undo(
        target_instance_id=live.instance_id,
        reason="a test",
        restore_id=None if restore is None else restore["restore_id"],
    )
    return plain(live.services.restores.wait(asked["restore_id"]))


def refused(live: Live, **named: str) -> SecrynError:
    before = live.state()
    wanted = {"target_instance_id": live.instance_id} | named
    with pytest.raises(SecrynError) as refusal:
        live.services.restores.undo(reason="a test", **wanted)
    assert live.state() == before
    return refusal.value


def test_what_was_replaced_comes_back_and_the_log_says_so(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("only before the restore")
    before = live.digest()
    restore = live.restore(backup, key)
    live.add_project("only after the restore")

    undone = undo(live, restore)

    assert (undone["state"], undone["kind"]) == ("restored", "undo")
    assert undone["undo_of"] == restore["restore_id"]
    assert live.digest() == before
    assert undone["epoch"] == restore["epoch"] + 1 == live.position().epoch
    (event,) = live.events_about(INSTANCE_EVENTS, Restored.TYPE, undone["restore_id"])
    assert (event["undo_of"], event["source"]) == (restore["restore_id"], None)
    (told,) = live.events_about(RESTORE_EVENTS, ev.UNDONE, restore["restore_id"])
    assert told["undone_by"] == undone["restore_id"]
    live.add_project("life goes on behind an undo")
    assert "life goes on behind an undo" in live.projects()
    shown = live.services.restores.get(restore["restore_id"])
    assert (shown["kept_as"], shown["undone_by"]) == (None, undone["restore_id"])


def test_an_undo_can_be_undone_and_that_again(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("unwanted, undone")
    before = live.digest()
    last = live.restore(backup, key)
    for expected in (before, backup["digest"], before, backup["digest"]):
        last = undo(live, last)
        assert last["state"] == "restored", last
        assert live.digest() == expected
    # Of all the states only the one that the next undo would bring back is kept.
    kept = {schema for schema in live.schemas() if schema.startswith("instance_before")}
    assert before_name(last["restore_id"]) in kept


def test_only_the_last_restore_can_be_undone(live: Live) -> None:
    backup, key = live.backup()
    first = live.restore(backup, key)
    last = live.restore(backup, key)
    refusal = refused(live, restore_id=first["restore_id"])
    assert isinstance(refusal, NotUndoable)
    assert last["restore_id"] in refusal.message
    assert isinstance(refused(live, restore_id=str(uuid4())), RestoreNotFound)
    assert isinstance(refused(live, target_instance_id=str(uuid4())), TargetMismatch)


def test_grants_and_policies_are_those_of_now_and_not_those_of_then(live: Live) -> None:
    backup, key = live.backup()
    with live.admin() as conn:
        conn.execute("GRANT INSERT ON instance.settings TO secryn_platform")
        conn.execute("ALTER TABLE instance.users ENABLE ROW LEVEL SECURITY")
        conn.execute("CREATE POLICY everyone ON instance.users FOR SELECT USING (true)")
    live.restore(backup, key)
    with live.admin() as conn:
        conn.execute("REVOKE INSERT ON instance.settings FROM secryn_platform")
        conn.execute("DROP POLICY everyone ON instance.users")
        conn.execute("CREATE POLICY later ON instance.users FOR SELECT USING (true)")
    assert undo(live)["state"] == "restored"
    with live.admin() as conn:
        allowed = conn.execute(
            "SELECT has_table_privilege('secryn_platform', 'instance.settings', 'INSERT'), "
            "has_table_privilege('secryn_platform', 'instance.settings', 'SELECT')"
        ).fetchone()
        policies = conn.execute(
            "SELECT policyname FROM pg_policies WHERE schemaname = 'instance'"
        ).fetchall()
        conn.execute("DROP POLICY later ON instance.users")
        conn.execute("ALTER TABLE instance.users DISABLE ROW LEVEL SECURITY")
    assert allowed == (False, True)
    assert policies == [("later",)]


def test_recipients_that_a_restore_or_an_undo_brings_back_wait_for_a_word(live: Live) -> None:
    settings = live.services.configuration
    recipient = HybridIdentity.generate().to_recipient().encode()
    value = {"enabled": True, "at": "00:00", "recipients": [recipient]}
    settings.set("schedule", value, "*", "r")
    backup, key = live.backup()
    settings.set("schedule", value | {"recipients": []}, "*", "r")

    def origin() -> str:
        return str(settings.get("schedule")["origin"])

    restore = live.restore(backup, key)
    # In between it is not known from whose backup the data are.
    eventually(lambda: origin() == "restored", "the restore is heard of")
    shown = settings.get("schedule")
    assert (shown["value"]["recipients"], shown["awaits_confirmation"]) == ([recipient], True)
    assert not shown["paused"]
    run = settings.run_schedule("r")
    assert run["recipients"] == []
    live.services.backups.wait(run["backup_id"])
    undo(live, restore)
    eventually(lambda: origin() == "restored", "the undo is heard of")
    assert not settings.get("schedule")["paused"]
