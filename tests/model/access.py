"""Users, roles and bindings, settings and the keyring.

The first three are removed for good, and with them what hangs on them.
"""

from __future__ import annotations

from shared.instance import events as ev
from tests.model.rulebook import Logged, made, rule
from tests.model.state import Refused, State


@rule(ev.UserCreated)
def user_created(state: State, event: ev.UserCreated, logged: Logged) -> None:
    state.new("users", event.id)
    state.name_free("users", event.id, username=event.username)
    names = ("id", "username", "display_name", "email", "password_hash")
    state.put(
        "users",
        **{name: getattr(event, name) for name in names},
        enabled=True,
        created_at=logged.time,
        password_changed_at=logged.time if event.password_hash is not None else None,
    )


@rule(ev.UserUpdated)
def user_updated(state: State, event: ev.UserUpdated, logged: Logged) -> None:
    state.there("users", event.id).update(
        display_name=event.display_name, email=event.email, enabled=event.enabled
    )


@rule(ev.UserPasswordChanged)
def user_password_changed(state: State, event: ev.UserPasswordChanged, logged: Logged) -> None:
    state.there("users", event.id).update(
        password_hash=event.password_hash, password_changed_at=logged.time
    )


@rule(ev.UserDeleted)
def user_deleted(state: State, event: ev.UserDeleted, logged: Logged) -> None:
    state.there("users", event.id)
    state.drop("role_bindings", user_id=event.id)
    state.drop("users", id=event.id)


@rule(ev.RoleCreated)
def role_created(state: State, event: ev.RoleCreated, logged: Logged) -> None:
    state.new("roles", event.id)
    state.name_free("roles", event.id, name=event.name)
    state.put(
        "roles",
        id=event.id,
        name=event.name,
        description=event.description,
        created_at=logged.time,
    )
    for permission in set(event.permissions):
        state.put("role_permissions", role_id=event.id, permission=permission)


@rule(ev.RoleUpdated)
def role_updated(state: State, event: ev.RoleUpdated, logged: Logged) -> None:
    row = state.there("roles", event.id)
    state.name_free("roles", event.id, name=event.name)
    row.update(name=event.name, description=event.description)


@rule(ev.RoleDeleted)
def role_deleted(state: State, event: ev.RoleDeleted, logged: Logged) -> None:
    state.there("roles", event.id)
    state.drop("role_permissions", role_id=event.id)
    state.drop("role_bindings", role_id=event.id)
    state.drop("roles", id=event.id)


@rule(ev.RolePermissionGranted)
def permission_granted(state: State, event: ev.RolePermissionGranted, logged: Logged) -> None:
    state.there("roles", event.id)
    state.new("role_permissions", event.id, event.permission)
    state.put("role_permissions", role_id=event.id, permission=event.permission)


@rule(ev.RolePermissionRevoked)
def permission_revoked(state: State, event: ev.RolePermissionRevoked, logged: Logged) -> None:
    state.there("role_permissions", event.id, event.permission)
    state.drop("role_permissions", role_id=event.id, permission=event.permission)


SCOPES = {"project": "projects", "vault": "vaults", "secret": "secrets"}


@rule(ev.RoleBindingCreated)
def role_bound(state: State, event: ev.RoleBindingCreated, logged: Logged) -> None:
    state.new("role_bindings", event.id)
    state.there("roles", event.role_id)
    state.there("users", event.user_id)
    if (event.scope_kind == "instance") != (event.scope_id is None):
        raise Refused("wrong_scope")
    if event.scope_kind != "instance":
        # Deleted by a mark will do; a purged secret will not.
        state.there(SCOPES[event.scope_kind], event.scope_id)
    names = ("id", "role_id", "user_id", "scope_kind", "scope_id")
    state.put("role_bindings", **{name: getattr(event, name) for name in names}, **made(logged))


@rule(ev.RoleBindingRemoved)
def role_unbound(state: State, event: ev.RoleBindingRemoved, logged: Logged) -> None:
    state.there("role_bindings", event.id)
    state.drop("role_bindings", id=event.id)


@rule(ev.SettingSet)
def setting_set(state: State, event: ev.SettingSet, logged: Logged) -> None:
    if event.value is not None and event.sealed is not None:
        raise Refused("ambiguous")
    state.put(
        "settings",
        name=event.name,
        value=event.value,
        sealed=event.sealed,
        updated_at=logged.time,
        updated_by=logged.actor,
    )


@rule(ev.SettingRemoved)
def setting_removed(state: State, event: ev.SettingRemoved, logged: Logged) -> None:
    state.there("settings", event.name)
    state.drop("settings", name=event.name)


@rule(ev.KeyringKeyAdded)
def data_key_added(state: State, event: ev.KeyringKeyAdded, logged: Logged) -> None:
    state.new("keyring", event.id)
    names = ("id", "purpose", "root_key_id", "wrapped", "check_value")
    state.put(
        "keyring",
        **{name: getattr(event, name) for name in names},
        state="active",
        created_at=logged.time,
    )


@rule(ev.KeyringKeyRetired)
def data_key_retired(state: State, event: ev.KeyringKeyRetired, logged: Logged) -> None:
    row = state.there("keyring", event.id)
    if row["state"] == "retired":
        raise Refused("retired")
    row["state"] = "retired"


@rule(ev.KeyringRewrapped)
def keyring_rewrapped(state: State, event: ev.KeyringRewrapped, logged: Logged) -> None:
    rows = state.rows["keyring"]
    if {key for (key,) in rows} != set(event.wrapped):
        raise Refused("incomplete")
    for (key,), row in rows.items():
        row.update(root_key_id=event.root_key_id, wrapped=event.wrapped[key])
