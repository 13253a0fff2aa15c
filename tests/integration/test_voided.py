"""What rude writers append behind a fence is void: counted, listed, and appended again by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import uuid4

import pytest

from shared.errors import KeyringError, NotVoided, RestoreNotFound, TargetMismatch, error_class
from shared.instance import events as ie
from shared.messages import CloudEvent
from shared.messages.topics import AUDIT, INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


def rude(live: Live, event: ie.InstanceEvent, actor: str) -> CloudEvent:
    """Append an event whatever the fence says; return it."""
    message = CloudEvent(
        type=event.TYPE,
        source="/rude",
        data=ie.encode(event),
        extensions={"epoch": str(live.position().epoch), "actor": actor},
    )
    live.send(INSTANCE_EVENTS, message)
    return message


def restore_behind(
    live: Live, backup: Json, key: str, events: Sequence[tuple[ie.InstanceEvent, str]]
) -> tuple[Json, list[CloudEvent]]:
    """Restore, and append ``events`` between its fence and its end."""
    restores = live.services.restores
    with live.admin() as conn, conn.transaction():
        # An old transaction: the restore waits for it, with its fence up.
        conn.execute("SELECT txid_current()")
        asked = live.start(key, backup_id=backup["backup_id"])
        step = "waiting for older transactions"
        eventually(lambda: restores.get(asked["restore_id"]).get("step") == step, step)
        written = [rude(live, event, actor) for event, actor in events]
    ended = restores.wait(asked["restore_id"])
    assert ended["state"] == "restored", ended
    return plain(ended), written


def project(name: str) -> ie.ProjectCreated:
    return ie.ProjectCreated(id=uuid4(), name=name)


def offsets_of(live: Live, restore: Json) -> list[int]:
    return [event["offset"] for event in live.services.restores.voided(restore["restore_id"])]


def reapply(live: Live, restore: Json, *offsets: int) -> list[Json]:
    found = live.services.restores.reapply(
        restore["restore_id"], offsets, target_instance_id=live.instance_id, reason="a test"
    )
    events: list[Json] = [plain(one) for one in found["events"]]
    return events


def test_what_was_written_behind_the_fence_stands_in_the_report(live: Live) -> None:
    backup, key = live.backup()
    one, two = project("rude one"), project("rude two")
    deleted = ie.ProjectDeleted(id=one.id)
    restore, written = restore_behind(
        live, backup, key, [(one, "rudolf"), (two, "rudolf"), (deleted, "rita")]
    )

    voided = restore["voided"]
    assert voided["total"] == 3
    assert voided["by_kind"] == {ie.ProjectCreated.TYPE: 2, ie.ProjectDeleted.TYPE: 1}
    assert voided["by_actor"] == {"rudolf": 2, "rita": 1}
    listed = voided["events"]
    assert [event["id"] for event in listed] == [str(event.id) for event in written]
    assert [event["actor"] for event in listed] == ["rudolf", "rudolf", "rita"]
    assert restore["fence_offset"] < listed[0]["offset"]
    assert not {"rude one", "rude two"} & live.projects()
    assert list(live.services.restores.voided(restore["restore_id"])) == [
        event | {"reapplied_as": None} for event in listed
    ]
    # In the list of all restores there is no room for them.
    shown = plain(live.services.restores.list()["restores"][0]["voided"])
    assert (shown["total"], "events" in shown) == (3, False)

    quiet, _ = restore_behind(live, backup, key, [])
    assert quiet["voided"] == {"total": 0, "by_kind": {}, "by_actor": {}, "events": []}


def test_all_of_them_are_listed_page_by_page(live: Live) -> None:
    backup, key = live.backup()
    events = [(project(f"rude {number}"), "rudolf") for number in range(5)]
    restore, written = restore_behind(live, backup, key, events)
    path = f"/api/v1/restores/{restore['restore_id']}/voided"
    found: list[str] = []
    page: Json = {"next_after": restore["fence_offset"]}
    while page["next_after"] is not None:
        page = live.services.restores.connection.call(
            "GET", path, limit=2, after=page["next_after"]
        )
        assert len(page["events"]) <= 2
        found += [event["id"] for event in page["events"]]
    assert found == [str(event.id) for event in written]
    document = json.loads(live.stack.secryn("restore", "voided", restore["restore_id"]).stdout)
    assert [event["id"] for event in document["events"]] == found


def test_one_is_appended_again_by_hand_and_once(live: Live) -> None:
    backup, key = live.backup()
    wanted, left = project("wanted after all"), project("better left")
    restore, written = restore_behind(live, backup, key, [(wanted, "rudolf"), (left, "rita")])
    offset, _ = offsets_of(live, restore)

    (first,) = reapply(live, restore, offset)
    assert (first["state"], first["appended"]) == ("applied", True)
    assert "wanted after all" in live.projects()
    assert "better left" not in live.projects()
    (again,) = reapply(live, restore, offset)
    assert (again["appended"], again["event_id"]) == (False, first["event_id"])

    (message,) = [e for e in live.messages(INSTANCE_EVENTS) if str(e.id) == first["event_id"]]
    assert json.loads(message.data) == json.loads(written[0].data)
    assert message.extensions["actor"] == "rudolf"
    assert message.extensions["causationid"] == str(written[0].id)
    assert message.extensions["epoch"] == str(restore["epoch"])
    shown = {
        e["offset"]: e["reapplied_as"] for e in live.services.restores.voided(restore["restore_id"])
    }
    assert list(shown.values()) == [first["event_id"], None]
    entries = [json.loads(event.data) for event in live.messages(AUDIT)]
    (entry, _) = [e for e in entries if e["api"]["operation"] == "restore.reapply"]
    assert entry["unmapped"]["details"]["offsets"] == [offset]
    live.add_project("life goes on after a reapplied event")


def test_one_that_contradicts_the_state_is_said_to_be_rejected(live: Live) -> None:
    backup, key = live.backup()
    restore, _ = restore_behind(live, backup, key, [(ie.ProjectDeleted(id=uuid4()), "rudolf")])
    (outcome,) = reapply(live, restore, *offsets_of(live, restore))
    assert outcome["state"] == "rejected"
    assert outcome["reason"].startswith("missing")


def test_what_is_not_void_is_not_appended_again(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("an ordinary event")
    ordinary = live.position().last_offset
    assert ordinary is not None
    restore, _ = restore_behind(live, backup, key, [(project("void"), "rudolf")])
    (offset,) = offsets_of(live, restore)
    before = live.state()
    for wrong in (ordinary, restore["fence_offset"], offset + 1, 10_000_000):
        with pytest.raises(NotVoided):
            reapply(live, restore, offset, wrong)
    with pytest.raises(TargetMismatch):
        live.services.restores.reapply(
            restore["restore_id"], [offset], target_instance_id=str(uuid4()), reason="a test"
        )
    with pytest.raises(RestoreNotFound):
        list(live.services.restores.voided(str(uuid4())))
    with pytest.raises(error_class("usage.invalid")):
        reapply(live, restore)
    assert live.state() == before
    assert "void" not in live.projects()


def test_a_value_whose_data_key_is_gone_is_not_brought_back(live: Live) -> None:
    vault = ie.VaultCreated(id=uuid4(), project_id=live.add_project("of a vault"), name="v")
    backup, key = live.backup()
    # A data key that only the undone state has.
    added = live.platform.writer.rotate_data_key("secret")
    live.platform.writer.wait_until_stored(added, 20)
    secret = uuid4()
    sealed = live.platform.writer.seal(b"value", "secret", secret, 1)
    created = ie.SecretCreated(
        id=secret, vault_id=vault.id, name="s", kind="text", sealed=sealed, size_bytes=5
    )
    restore, _ = restore_behind(live, backup, key, [(vault, "rudolf"), (created, "rudolf")])
    with pytest.raises(KeyringError):
        reapply(live, restore, *offsets_of(live, restore))
    # All or none.
    assert not any(e["reapplied_as"] for e in live.services.restores.voided(restore["restore_id"]))


def test_an_aborted_restore_made_nothing_void(live: Live) -> None:
    backup, key = live.backup()
    restores = live.services.restores
    with live.admin() as conn, conn.transaction():
        conn.execute("SELECT txid_current()")
        asked = live.start(key, backup_id=backup["backup_id"])
        step = "waiting for older transactions"
        eventually(lambda: restores.get(asked["restore_id"]).get("step") == step, step)
        rude(live, project("written in time"), "rudolf")
        restores.cancel(asked["restore_id"])
        ended = restores.wait(asked["restore_id"])
    assert ended["state"] == "cancelled"
    assert ended["voided"] is None
    eventually(lambda: "written in time" in live.projects(), "the event is applied")
    with pytest.raises(NotVoided):
        list(restores.voided(asked["restore_id"]))


def test_the_command_line_appends_again(live: Live) -> None:
    backup, key = live.backup()
    restore, _ = restore_behind(
        live, backup, key, [(project("by command"), "rudolf"), (project("as well"), "rudolf")]
    )
    first, second = map(str, offsets_of(live, restore))
    done = live.stack.secryn(
        "restore", "reapply", restore["restore_id"], "--offset", first, "--offset", second,
        "--instance", live.instance_id,
    )  # fmt: skip
    assert [event["state"] for event in json.loads(done.stdout)["events"]] == ["applied", "applied"]
    assert {"by command", "as well"} <= live.projects()
