"""Settings and the keyring."""

from __future__ import annotations

from shared.instance import events as ev
from shared.instance.rules.base import Contradiction, LoggedEvent, absent, by_id, folds, present
from shared.instance.workingset import Needs, WorkingSet


def _by_name(event: ev.SettingSet | ev.SettingRemoved, needs: Needs) -> None:
    needs.keys["settings"].add((event.name,))


@folds(ev.SettingSet, _by_name)
def _setting_set(working: WorkingSet, event: ev.SettingSet, logged: LoggedEvent) -> None:
    if event.sealed is not None and event.value is not None:
        raise Contradiction("ambiguous", "a setting is either plain or sealed")
    working.put(
        "settings",
        {
            "name": event.name,
            "value": event.value,
            "sealed": event.sealed,
            "updated_at": logged.time,
            "updated_by": logged.actor,
        },
    )


@folds(ev.SettingRemoved, _by_name)
def _setting_removed(working: WorkingSet, event: ev.SettingRemoved, _: LoggedEvent) -> None:
    present(working, "settings", event.name)
    working.delete("settings", event.name)


@folds(ev.KeyringKeyAdded, by_id("keyring"))
def _key_added(working: WorkingSet, event: ev.KeyringKeyAdded, logged: LoggedEvent) -> None:
    absent(working, "keyring", event.id)
    row = event.model_dump(include={"id", "purpose", "root_key_id", "wrapped", "check_value"})
    working.put("keyring", row | {"state": "active", "created_at": logged.time})


@folds(ev.KeyringKeyRetired, by_id("keyring"))
def _key_retired(working: WorkingSet, event: ev.KeyringKeyRetired, _: LoggedEvent) -> None:
    row = present(working, "keyring", event.id)
    if row["state"] == "retired":
        raise Contradiction("retired", f"keyring {event.id} is retired already")
    working.put("keyring", row | {"state": "retired"})


def _needs_whole_keyring(_: ev.KeyringRewrapped, needs: Needs) -> None:
    needs.whole.add("keyring")


@folds(ev.KeyringRewrapped, _needs_whole_keyring)
def _rewrapped(working: WorkingSet, event: ev.KeyringRewrapped, _: LoggedEvent) -> None:
    rows = working.all("keyring")
    if {row["id"] for row in rows} != set(event.wrapped):
        # A key left out could never be opened again under the new root key.
        raise Contradiction("incomplete", "the rewrapped keys are not exactly the keyring's")
    for row in rows:
        changed = {"root_key_id": event.root_key_id, "wrapped": event.wrapped[row["id"]]}
        working.put("keyring", row | changed)
