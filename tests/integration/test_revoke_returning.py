"""`--revoke-returning`: access that was removed since the backup is removed again, right behind R."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from cli.connect import connected
from cli.platform import platform
from restore_service.replace import DECIDED
from shared.crashpoints import ENV
from shared.errors import RevokeRefused
from shared.instance import events as ie
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live
from tests.plugins.stack import StackUnderTest

REVOKING = {
    ie.RoleBindingRemoved.TYPE,
    ie.RolePermissionRevoked.TYPE,
    ie.RoleDeleted.TYPE,
    ie.UserDeleted.TYPE,
    ie.UserUpdated.TYPE,
}


def append(live: Live, *events: ie.InstanceEvent) -> None:
    for event in events:
        written = live.append(event)
        live.platform.writer.wait_until_stored(written, 20)


def user(name: str) -> ie.UserCreated:
    return ie.UserCreated(
        id=uuid4(), username=name, display_name=f"The {name}", email=f"{name}@example.org"
    )


def bound(user_id: UUID, role_id: UUID) -> ie.RoleBindingCreated:
    return ie.RoleBindingCreated(
        id=uuid4(), role_id=role_id, user_id=user_id, scope_kind="instance"
    )


def revoking(live: Live, backup: Json, key: str) -> Json:
    asked = live.start(key, backup_id=backup["backup_id"], revoke_returning=True)
    return plain(live.services.restores.wait(asked["restore_id"]))


def behind_restored(live: Live, restore: Json) -> list[CloudEvent]:
    """Return what stands on the log behind the restore's R."""
    events = live.messages(INSTANCE_EVENTS)
    places = [
        place
        for place, event in enumerate(events)
        if event.type == ie.Restored.TYPE
        and json.loads(event.data)["restore_id"] == restore["restore_id"]
    ]
    # Published behind what the history says already.
    return events[places[0] + 1 :] if places else []


def rejections(live: Live) -> int:
    with live.admin() as conn:
        (count,) = conn.execute("SELECT count(*) FROM instance.rejections").fetchone() or (None,)
    assert isinstance(count, int)
    return count


def access(live: Live) -> dict[str, set[tuple[object, ...]]]:
    queries = {
        "users": "SELECT username, display_name, enabled FROM instance.users",
        "roles": "SELECT name FROM instance.roles",
        "permissions": "SELECT role_id, permission FROM instance.role_permissions",
        "bindings": "SELECT user_id, role_id, scope_kind FROM instance.role_bindings",
    }
    with live.admin() as conn:
        return {name: set(conn.execute(query.encode())) for name, query in queries.items()}


def test_exactly_the_access_that_comes_back_is_revoked(live: Live) -> None:
    leaver, sleeper, stayer = (
        user("returning leaver"),
        user("returning sleeper"),
        user("returning stayer"),
    )
    gone = ie.RoleCreated(id=uuid4(), name="gone role", permissions=("read",))
    kept = ie.RoleCreated(id=uuid4(), name="kept role", permissions=("read", "write"))
    of_leaver, of_stayer = bound(leaver.id, kept.id), bound(stayer.id, kept.id)
    append(
        live, leaver, sleeper, stayer, gone, kept, of_leaver, of_stayer, bound(stayer.id, gone.id)
    )
    backup, key = live.backup()
    append(
        live,
        ie.UserDeleted(id=leaver.id),
        ie.UserUpdated(
            id=sleeper.id, display_name="The returning sleeper", email="s@e.org", enabled=False
        ),
        ie.RoleDeleted(id=gone.id),
        ie.RolePermissionRevoked(id=kept.id, permission="write"),
        ie.RoleBindingRemoved(id=of_stayer.id),
    )
    before = access(live)
    rejected_before = rejections(live)
    live.add_project("undone, its access too")

    restore = revoking(live, backup, key)

    assert restore["state"] == "restored", restore
    assert "undone, its access too" not in live.projects()
    assert access(live) == before
    events = behind_restored(live, restore)
    assert [event.type for event in events] == [
        ie.RoleBindingRemoved.TYPE,
        ie.RolePermissionRevoked.TYPE,
        ie.RoleDeleted.TYPE,
        ie.UserDeleted.TYPE,
        ie.UserUpdated.TYPE,
    ]
    assert {event.extensions["epoch"] for event in events} == {str(restore["epoch"])}
    assert {event.extensions["actor"] for event in events} == {restore["requested_by"]}
    revoked = restore["revoked"]
    assert revoked["events"] == 5
    assert [row["username"] for row in revoked["users"]["named"]] == ["returning leaver"]
    assert [row["username"] for row in revoked["users_enabled"]["named"]] == ["returning sleeper"]
    assert [row["name"] for row in revoked["roles"]["named"]] == ["gone role"]
    assert [row["permission"] for row in revoked["role_permissions"]["named"]] == ["write"]
    (binding,) = revoked["role_bindings"]["named"]
    assert (binding["user"], binding["role"]) == ("returning stayer", "kept role")
    assert rejections(live) == rejected_before
    # The log goes on, and whoever comes back may be let in again.
    append(live, bound(stayer.id, kept.id))


def test_where_nothing_comes_back_nothing_is_revoked(live: Live) -> None:
    backup, key = live.backup()
    append(live, user("came later"))
    restore = revoking(live, backup, key)
    assert (restore["state"], restore["revoked"]["events"]) == ("restored", 0)
    assert behind_restored(live, restore) == []
    assert live.restore(backup, key)["revoked"] is None


def test_what_would_remove_everybody_is_refused(
    live: Live, empty_live: Live, tmp_path: Path
) -> None:
    backup, key = live.backup()
    file = live.archive(backup, tmp_path)
    before = empty_live.state()
    ended = empty_live.restore_file(
        file, key, source_instance_id=live.instance_id, revoke_returning=True
    )
    assert (ended["state"], ended["error"]["code"]) == ("failed", RevokeRefused.code)
    assert empty_live.state() == before

    # An instance that lost its users, as a database that was made anew.
    backup, key = empty_live.backup()
    ended = revoking(empty_live, backup, key)
    assert (ended["state"], ended["error"]["code"]) == ("aborted", RevokeRefused.code)
    empty_live.add_project("life goes on")
    assert "life goes on" in empty_live.projects()


def test_a_store_that_has_not_seen_every_removal_is_refused(live: Live) -> None:
    unseen = user("unseen")
    append(live, unseen)
    backup, key = live.backup()
    pid = live.stack.pids()["projector"]
    os.kill(pid, signal.SIGSTOP)
    try:
        live.append(ie.UserDeleted(id=unseen.id))
        ended = revoking(live, backup, key)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (ended["state"], ended["error"]["code"]) == ("aborted", RevokeRefused.code)
    live.add_project("goes on")
    assert not [row for row in access(live)["users"] if row[0] == "unseen"]


@pytest.fixture
def stopping(
    given_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> Iterator[tuple[Live, Path]]:
    """A live stack, and the folder through which its processes are stopped at a crash point."""
    points = tmp_path / "points"
    points.mkdir()
    stack = given_stack(**{ENV: str(points)})
    stack.up()
    with connected(stack.state) as services, platform(stack.state) as parts:
        yield Live(stack, services, parts), points


@pytest.mark.long("they are of the cut-over's transaction, whose points every run dies at")
def test_killed_behind_the_cut_over_they_land_once(stopping: tuple[Live, Path]) -> None:
    live, points = stopping
    stayer, leaver = user("stayer"), user("leaver")
    append(live, stayer, leaver)
    backup, key = live.backup()
    append(live, ie.UserDeleted(id=leaver.id))
    (points / DECIDED.name).touch()
    asked = live.start(key, backup_id=backup["backup_id"], revoke_returning=True)
    eventually((points / f"{DECIDED.name}.reached").exists, "the cut-over is committed")
    live.stack.kill("restore")
    (points / DECIDED.name).unlink()
    live.stack.wait_healthy()

    def restored() -> Json | None:
        found = live.services.restores.get(asked["restore_id"])
        return plain(found) if found["state"] == "restored" else None

    restore = eventually(restored, "the restore ends")
    eventually(lambda: behind_restored(live, restore), "the revocation lands")

    def revoked() -> bool:
        with psycopg.connect(live.stack.postgres_admin()) as conn:
            return ("leaver",) not in set(conn.execute("SELECT username FROM instance.users"))

    eventually(revoked, "the revocation is folded")
    live.add_project("behind all of it")
    events = [event for event in behind_restored(live, restore) if event.type in REVOKING]
    assert [event.type for event in events] == [ie.UserDeleted.TYPE]
    assert restore["revoked"]["users"]["count"] == 1
