"""Users, roles and who has which role where."""

from __future__ import annotations

from shared.instance import events as ev
from shared.instance.rules.base import (
    Contradiction,
    LoggedEvent,
    absent,
    by_id,
    folds,
    free,
    made,
    present,
)
from shared.instance.workingset import Needs, WorkingSet

SCOPE_TABLES = {"project": "projects", "vault": "vaults", "secret": "secrets"}


def _needs_new_user(event: ev.UserCreated, needs: Needs) -> None:
    needs.keys["users"].add((event.id,))
    needs.names["users"].add((event.username,))


@folds(ev.UserCreated, _needs_new_user)
def _user_created(working: WorkingSet, event: ev.UserCreated, logged: LoggedEvent) -> None:
    absent(working, "users", event.id)
    free(working, "users", event.id, event.username)
    working.put(
        "users",
        {
            "id": event.id,
            "username": event.username,
            "display_name": event.display_name,
            "email": event.email,
            "password_hash": event.password_hash,
            "enabled": True,
            "created_at": logged.time,
            "password_changed_at": None if event.password_hash is None else logged.time,
        },
    )


@folds(ev.UserUpdated, by_id("users"))
def _user_updated(working: WorkingSet, event: ev.UserUpdated, _: LoggedEvent) -> None:
    row = present(working, "users", event.id)
    changed = {
        "display_name": event.display_name,
        "email": event.email,
        "enabled": event.enabled,
    }
    working.put("users", row | changed)


@folds(ev.UserPasswordChanged, by_id("users"))
def _password_changed(
    working: WorkingSet, event: ev.UserPasswordChanged, logged: LoggedEvent
) -> None:
    row = present(working, "users", event.id)
    changed = {"password_hash": event.password_hash, "password_changed_at": logged.time}
    working.put("users", row | changed)


@folds(ev.UserDeleted, by_id("users"))
def _user_deleted(working: WorkingSet, event: ev.UserDeleted, _: LoggedEvent) -> None:
    present(working, "users", event.id)
    working.delete_children("role_bindings", "user_id", event.id)
    working.delete("users", event.id)


def _needs_role(event: ev.RoleCreated | ev.RoleUpdated, needs: Needs) -> None:
    needs.keys["roles"].add((event.id,))
    needs.names["roles"].add((event.name,))


@folds(ev.RoleCreated, _needs_role)
def _role_created(working: WorkingSet, event: ev.RoleCreated, logged: LoggedEvent) -> None:
    absent(working, "roles", event.id)
    free(working, "roles", event.id, event.name)
    row = {"id": event.id, "name": event.name, "description": event.description}
    working.put("roles", row | {"created_at": logged.time})
    for permission in event.permissions:
        working.put("role_permissions", {"role_id": event.id, "permission": permission})


@folds(ev.RoleUpdated, _needs_role)
def _role_updated(working: WorkingSet, event: ev.RoleUpdated, _: LoggedEvent) -> None:
    row = present(working, "roles", event.id)
    free(working, "roles", event.id, event.name)
    working.put("roles", row | {"name": event.name, "description": event.description})


@folds(ev.RoleDeleted, by_id("roles"))
def _role_deleted(working: WorkingSet, event: ev.RoleDeleted, _: LoggedEvent) -> None:
    present(working, "roles", event.id)
    working.delete_children("role_permissions", "role_id", event.id)
    working.delete_children("role_bindings", "role_id", event.id)
    working.delete("roles", event.id)


def _needs_permission(
    event: ev.RolePermissionGranted | ev.RolePermissionRevoked, needs: Needs
) -> None:
    needs.keys["roles"].add((event.id,))
    needs.keys["role_permissions"].add((event.id, event.permission))


@folds(ev.RolePermissionGranted, _needs_permission)
def _granted(working: WorkingSet, event: ev.RolePermissionGranted, _: LoggedEvent) -> None:
    present(working, "roles", event.id)
    absent(working, "role_permissions", event.id, event.permission)
    working.put("role_permissions", {"role_id": event.id, "permission": event.permission})


@folds(ev.RolePermissionRevoked, _needs_permission)
def _revoked(working: WorkingSet, event: ev.RolePermissionRevoked, _: LoggedEvent) -> None:
    present(working, "role_permissions", event.id, event.permission)
    working.delete("role_permissions", event.id, event.permission)


def _needs_binding(event: ev.RoleBindingCreated, needs: Needs) -> None:
    needs.keys["role_bindings"].add((event.id,))
    needs.keys["roles"].add((event.role_id,))
    needs.keys["users"].add((event.user_id,))
    if event.scope_kind in SCOPE_TABLES and event.scope_id is not None:
        needs.keys[SCOPE_TABLES[event.scope_kind]].add((event.scope_id,))


@folds(ev.RoleBindingCreated, _needs_binding)
def _bound(working: WorkingSet, event: ev.RoleBindingCreated, logged: LoggedEvent) -> None:
    absent(working, "role_bindings", event.id)
    present(working, "roles", event.role_id)
    present(working, "users", event.user_id)
    if (event.scope_kind == "instance") != (event.scope_id is None):
        raise Contradiction("wrong_scope", "only the scope instance has no scope_id")
    if event.scope_id is not None:
        present(working, SCOPE_TABLES[event.scope_kind], event.scope_id)
    row = event.model_dump(include={"id", "role_id", "user_id", "scope_kind", "scope_id"})
    working.put("role_bindings", row | made(logged))


@folds(ev.RoleBindingRemoved, by_id("role_bindings"))
def _unbound(working: WorkingSet, event: ev.RoleBindingRemoved, _: LoggedEvent) -> None:
    present(working, "role_bindings", event.id)
    working.delete("role_bindings", event.id)
