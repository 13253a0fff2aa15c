"""A preview says what a restore would undo and whose access it would bring back; it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.database import LOCK_SPACE, Lock
from shared.errors import CrossesRestore, LogLost, PreviewNotFound, RollForwardRange, error_class
from shared.instance import events as ie
from shared.messages.topics import AUDIT, INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live

PREFIX = ie.TYPE_PREFIX


def preview(live: Live, key: str, **named: Any) -> Json:
    named.setdefault("target_instance_id", live.instance_id)
    asked = live.services.restores.preview(key_file_text=key, **named)
    return plain(live.services.restores.wait_preview(asked["preview_id"]))


def previewed(live: Live, backup: Json, key: str, **named: Any) -> Json:
    before = untouched(live)
    found = preview(live, key, backup_id=backup["backup_id"], **named)
    assert found["state"] == "previewed", found
    assert untouched(live) == before, "a preview changed something"
    return found


def untouched(live: Live) -> tuple[object, ...]:
    """Return what a preview leaves as it is: the store, the schemas, the fence, the log."""
    digest, schemas, position = live.state()
    kafka = live.kafka()
    with kafka.admin() as admin:
        log_end = admin.high_watermark(kafka.topic(INSTANCE_EVENTS))
    return digest, schemas, position.last_offset, position.epoch, position.fence_no, log_end


def append(live: Live, *events: ie.InstanceEvent, actor: str = "anna") -> None:
    for event in events:
        written = live.append(event, actor)
    live.platform.writer.wait_until_stored(written, 20)


def names(found: Json, way: str, kind: str) -> set[str]:
    rows = found["access"][way][kind]
    assert rows["count"] == len(rows["named"])
    return {str(row.get("username") or row.get("name") or row["id"]) for row in rows["named"]}


@pytest.fixture(scope="module")
def crew(live: Live) -> dict[str, UUID]:
    """Users, roles and bindings that every test finds when it begins."""
    ids = {name: uuid4() for name in ("leaver", "sleeper", "stayer", "auditor", "clerk", "bound")}
    append(
        live,
        *(ie.UserCreated(id=ids[n], username=n, display_name=n, email=f"{n}@example.org",
                         password_hash="argon2-hash") for n in ("leaver", "sleeper", "stayer")),
        ie.RoleCreated(id=ids["auditor"], name="night auditor", permissions=("read", "export")),
        ie.RoleCreated(id=ids["clerk"], name="night clerk", permissions=("read", "write")),
        ie.RoleBindingCreated(id=ids["bound"], role_id=ids["clerk"], user_id=ids["stayer"],
                              scope_kind="instance"),
        ie.RoleBindingCreated(id=uuid4(), role_id=ids["clerk"], user_id=ids["leaver"],
                              scope_kind="instance"),
    )  # fmt: skip
    return ids


def test_the_events_behind_the_backup_are_counted_and_the_newest_named(live: Live) -> None:
    backup, key = live.backup()
    project = live.add_project("seen by nobody")
    append(live, ie.ProjectUpdated(id=project, name="renamed", description="x"), actor="berta")
    vault = uuid4()
    append(live, ie.VaultCreated(id=vault, project_id=project, name="a vault"), actor="berta")
    append(live, ie.VaultDeleted(id=vault))

    events = previewed(live, backup, key, newest=3)["events"]

    assert (events["counted"], events["total"]) == (True, 4)
    kinds = ("project.created.v1", "project.updated.v1", "vault.created.v1", "vault.deleted.v1")
    assert events["by_kind"] == {PREFIX + kind: 1 for kind in kinds}
    assert events["by_actor"]["berta"] == 2
    assert events["by_actor"]["anna"] == 1
    assert [event["kind"] for event in events["newest"]] == [PREFIX + k for k in kinds[:0:-1]]
    newest = events["newest"][0]
    assert (newest["id"], newest["name"], newest["actor"]) == (str(vault), "a vault", "anna")
    assert newest["offset"] == live.position().last_offset
    assert events["to"] == backup["offset"]


def test_a_sealed_value_is_in_no_preview(live: Live) -> None:
    backup, key = live.backup()
    project, vault, secret = live.add_project("holds a secret"), uuid4(), uuid4()
    append(live, ie.VaultCreated(id=vault, project_id=project, name="v"))
    sealed = live.platform.writer.seal(b"the plain value", "secret", secret, 1)
    created = ie.SecretCreated(
        id=secret, vault_id=vault, name="deploy key", kind="text", sealed=sealed, size_bytes=15
    )
    append(live, created)
    found = previewed(live, backup, key)
    assert found["events"]["newest"][0]["name"] == "deploy key"
    document = json.dumps(found)
    assert json.loads(ie.encode(created))["sealed"] not in document
    assert "argon2" not in document
    assert "AGE-SECRET-KEY" not in document


def test_whose_access_comes_back_and_whose_goes(live: Live, crew: dict[str, UUID]) -> None:
    backup, key = live.backup()
    newcomer = uuid4()
    append(
        live,
        ie.UserDeleted(id=crew["leaver"]),
        ie.UserUpdated(id=crew["sleeper"], display_name="s", email="s@example.org", enabled=False),
        ie.RoleDeleted(id=crew["auditor"]),
        ie.RolePermissionRevoked(id=crew["clerk"], permission="write"),
        ie.RoleBindingRemoved(id=crew["bound"]),
        ie.UserCreated(id=newcomer, username="newcomer", display_name="n", email="n@example.org"),
    )
    found = previewed(live, backup, key)
    assert names(found, "returning", "users") == {"leaver"}
    assert names(found, "returning", "users_enabled") == {"sleeper"}
    assert names(found, "returning", "roles") == {"night auditor"}
    permissions = found["access"]["returning"]["role_permissions"]["named"]
    assert {(p["role"], p["permission"]) for p in permissions} == {
        ("night auditor", "read"), ("night auditor", "export"), ("night clerk", "write"),
    }  # fmt: skip
    bindings = found["access"]["returning"]["role_bindings"]["named"]
    assert {(b["user"], b["role"]) for b in bindings} == {
        ("stayer", "night clerk"),
        ("leaver", "night clerk"),
    }
    assert names(found, "vanishing", "users") == {"newcomer"}
    assert found["access"]["as_of_offset"] == backup["offset"]

    # A binding that was made anew gives the same access: nothing of it comes back.
    again = ie.RoleBindingCreated(
        id=uuid4(), role_id=crew["clerk"], user_id=crew["stayer"], scope_kind="instance"
    )
    append(live, again)
    bindings = previewed(live, backup, key)["access"]["returning"]["role_bindings"]["named"]
    assert [binding["user"] for binding in bindings] == ["leaver"]

    # What it said is what the restore does.
    assert live.restore(backup, key)["state"] == "restored"
    with live.admin() as conn:
        users = {row[0] for row in conn.execute("SELECT username FROM instance.users")}
    assert "leaver" in users
    assert "newcomer" not in users


def test_only_what_lies_behind_the_roll_forward_is_undone(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("kept")
    offset = live.position().position
    live.add_project("undone")
    live.add_project("undone as well")
    events = previewed(live, backup, key, roll_forward=offset)["events"]
    assert (events["total"], events["to"]) == (2, offset)
    assert [event["name"] for event in events["newest"]] == ["undone as well", "undone"]
    assert previewed(live, backup, key, roll_forward="latest")["events"]["total"] == 0
    too_far = preview(live, key, backup_id=backup["backup_id"], roll_forward=offset + 10_000)
    assert (too_far["state"], too_far["error"]["code"]) == ("failed", RollForwardRange.code)


def test_it_follows_the_restores_on_the_way(live: Live) -> None:
    first, first_key = live.backup()
    live.add_project("in the second backup alone")
    second, second_key = live.backup()
    live.add_project("made void by the restore")
    assert live.restore(first, first_key)["state"] == "restored"
    live.add_project("after the restore")

    # What the first restore undid already is undone no second time.
    events = previewed(live, first, first_key)["events"]
    assert [event["name"] for event in events["newest"]] == ["after the restore"]
    assert events["total"] == 1
    # The present state does not come from the second backup: the whole log says so.
    events = previewed(live, second, second_key)["events"]
    assert [event["name"] for event in events["newest"]] == ["after the restore"]
    # Rolled forward into what was undone: only what came after the restore is.
    into = previewed(live, first, first_key, roll_forward=second["offset"])["events"]
    assert into["total"] == 1


def test_with_a_roll_forward_the_access_is_that_of_where_it_ends(
    live: Live,
) -> None:
    quitter, dozer = uuid4(), uuid4()
    append(
        live,
        *(ie.UserCreated(id=user, username=name, display_name=name, email=f"{name}@example.org")
          for user, name in ((quitter, "quitter"), (dozer, "dozer"))),
    )  # fmt: skip
    backup, key = live.backup()
    hired, role, bound = uuid4(), uuid4(), uuid4()
    append(
        live,
        ie.UserCreated(id=hired, username="hired", display_name="h", email="h@example.org",
                       password_hash="argon2-of-the-hired"),
        ie.RoleCreated(id=role, name="later role", permissions=("read",)),
        ie.RolePermissionGranted(id=role, permission="write"),
        ie.RoleBindingCreated(id=bound, role_id=role, user_id=hired, scope_kind="instance"),
        # What contradicts the state gives nobody anything.
        ie.RoleBindingCreated(id=uuid4(), role_id=uuid4(), user_id=hired, scope_kind="instance"),
        ie.UserDeleted(id=quitter),
    )  # fmt: skip
    middle = live.position().position
    append(
        live,
        ie.RoleBindingRemoved(id=bound),
        ie.RolePermissionRevoked(id=role, permission="write"),
        ie.UserDeleted(id=hired),
        ie.UserUpdated(id=dozer, display_name="s", email="s@example.org", enabled=False),
    )
    end = live.position().position

    found = previewed(live, backup, key, roll_forward=middle)

    assert found["access"]["as_of_offset"] == middle == found["events"]["to"]
    # Removed behind the place that it rolls forward to, and so it comes back.
    assert names(found, "returning", "users") == {"hired"}
    assert names(found, "returning", "users_enabled") == {"dozer"}
    bindings = found["access"]["returning"]["role_bindings"]["named"]
    assert [(b["user"], b["role"]) for b in bindings] == [("hired", "later role")]
    permissions = found["access"]["returning"]["role_permissions"]["named"]
    assert [(p["role"], p["permission"]) for p in permissions] == [("later role", "write")]
    # Removed before it, and so it does not.
    assert "quitter" not in names(found, "returning", "users")
    assert names(found, "vanishing", "users") == set()
    assert "argon2" not in json.dumps(found)
    to_the_end = previewed(live, backup, key, roll_forward="latest")["access"]
    assert to_the_end["as_of_offset"] >= end
    for side in ("returning", "vanishing"):
        assert not any(entry["count"] for entry in to_the_end[side].values()), to_the_end
    at_the_backup = previewed(live, backup, key)["access"]
    assert at_the_backup["as_of_offset"] == backup["offset"]
    assert {row["username"] for row in at_the_backup["returning"]["users"]["named"]} == {"quitter"}


def test_a_place_between_two_restores_is_found_by_reading_once_more(live: Live) -> None:
    first, first_key = live.backup()
    live.add_project("kept by the roll-forward")
    middle = live.position().position
    live.add_project("not kept")
    asked = live.start(first_key, backup_id=first["backup_id"], roll_forward=middle)
    assert live.services.restores.wait(asked["restore_id"])["state"] == "restored"
    live.add_project("behind it")
    events = previewed(live, first, first_key)["events"]
    named = [event["name"] for event in events["newest"]]
    assert named == ["behind it", "kept by the roll-forward"]
    assert events["total"] == 2


def test_an_archive_of_another_log_is_compared_but_not_counted(
    live: Live, empty_live: Live, crew: dict[str, UUID], tmp_path: Path
) -> None:
    backup, key = live.backup()
    here = empty_live
    uploaded = here.services.restores.upload(live.archive(backup, tmp_path))
    found = preview(here, key, upload=uploaded, source_instance_id=live.instance_id)
    assert found["state"] == "previewed", found
    assert found["events"]["counted"] is False
    assert found["events"]["reason"]["code"] == LogLost.code
    assert "stayer" in names(found, "returning", "users")


def test_a_way_across_a_restore_from_another_log_is_not_counted(
    live: Live, empty_live: Live, tmp_path: Path
) -> None:
    early, early_key = empty_live.backup()
    foreign, foreign_key = live.backup()
    replaced = empty_live.restore_file(
        live.archive(foreign, tmp_path), foreign_key, source_instance_id=live.instance_id
    )
    assert replaced["state"] == "restored", replaced
    found = previewed(empty_live, early, early_key)
    assert found["events"]["counted"] is False
    assert found["events"]["reason"]["code"] == CrossesRestore.code
    assert found["access"]["vanishing"]["users"]["count"] > 0


def test_it_waits_for_no_restore_and_no_restore_for_it(live: Live) -> None:
    backup, key = live.backup()
    live.add_project("undone by the restore")
    with live.admin() as conn:
        # As a backup that reads: the restore waits for it.
        conn.execute("SELECT pg_advisory_lock_shared(%s, %s)", (LOCK_SPACE, Lock.GUARD))
        asked = live.start(key, backup_id=backup["backup_id"])
        restores = live.services.restores
        waiting = "waiting for a running backup"
        eventually(lambda: restores.get(asked["restore_id"]).get("step") == waiting, waiting)
        assert previewed(live, backup, key)["events"]["total"] == 1
    assert restores.wait(asked["restore_id"])["state"] == "restored"


def test_what_a_restore_would_refuse_a_preview_refuses_too(live: Live) -> None:
    backup, _ = live.backup()
    _, another_key = live.backup()
    found = preview(live, another_key, backup_id=backup["backup_id"])
    assert (found["state"], found["error"]["code"]) == ("failed", "archive.wrong_key_or_header")
    with pytest.raises(error_class("restore.target_mismatch")):
        preview(live, another_key, backup_id=backup["backup_id"], target_instance_id=str(uuid4()))
    with pytest.raises(PreviewNotFound):
        live.services.restores.connection.call("GET", f"/api/v1/previews/{uuid4()}")
    entries = [json.loads(event.data) for event in live.messages(AUDIT)]
    outcomes = [e["status"] for e in entries if e["api"]["operation"] == "restore.preview"]
    assert {"Success", "Failure"} <= set(outcomes)


def test_the_command_line_tells_it_and_changes_nothing(live: Live, tmp_path: Path) -> None:
    backup, key = live.backup()
    key_file = tmp_path / "backup.key"
    key_file.write_text(key)
    live.add_project("shown on a terminal")
    before = untouched(live)
    done = live.stack.secryn(
        "restore", "preview", "--backup", backup["backup_id"], "--key-file", str(key_file),
        "--instance", live.instance_id, "--newest", "1",
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert [event["name"] for event in document["events"]["newest"]] == ["shown on a terminal"]
    assert untouched(live) == before
