"""Random events of users, roles, settings and the keyring."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from shared.instance import events as ev
from tests.makers.world import POOL, World, made, of_known, pooled

PLAIN: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**63, 10**40, 0.1, -0.0, 1e2, 1e308, 5e-324, "", "a", "null",
    [], {}, [None], [True, 1], {"": None}, {"b": 1, "a": {"ä": ["🔑", 1.5]}}, "\x01\u2028",
)  # fmt: skip

of_known(ev.UserDeleted, "users")
of_known(ev.RoleDeleted, "roles")
of_known(ev.RoleBindingRemoved, "role_bindings")
of_known(ev.KeyringKeyRetired, "keyring")


def _hash(world: World, rng: Random) -> str | None:
    return world.text(rng) if rng.random() < 0.7 else None


@made(ev.UserCreated)
def _user_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.UserCreated(
        id=world.fresh("users", rng),
        username=world.name(rng),
        display_name=world.text(rng),
        email=world.text(rng),
        password_hash=_hash(world, rng),
    )


@made(ev.UserUpdated)
def _user_updated(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.UserUpdated(
        id=world.known("users", rng),
        display_name=world.text(rng),
        email=world.text(rng),
        enabled=rng.random() < 0.5,
    )


@made(ev.UserPasswordChanged)
def _password_changed(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.UserPasswordChanged(id=world.known("users", rng), password_hash=world.text(rng))


@made(ev.RoleCreated)
def _role_created(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.RoleCreated(
        id=world.fresh("roles", rng),
        name=world.name(rng),
        description=world.text(rng),
        permissions=tuple(world.name(rng) for _ in range(rng.randrange(5))),
    )


@made(ev.RoleUpdated)
def _role_updated(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.RoleUpdated(
        id=world.known("roles", rng), name=world.name(rng), description=world.text(rng)
    )


@made(ev.RolePermissionGranted)
def _permission_granted(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.RolePermissionGranted(id=world.known("roles", rng), permission=world.name(rng))


@made(ev.RolePermissionRevoked)
def _permission_revoked(world: World, rng: Random) -> ev.InstanceEvent:
    row = world.row("role_permissions", rng)
    if row and rng.random() < 0.85:
        return ev.RolePermissionRevoked(id=row["role_id"], permission=row["permission"])
    return ev.RolePermissionRevoked(id=world.known("roles", rng), permission=world.name(rng))


_SCOPES: Final[tuple[tuple[ev.ScopeKind, str | None], ...]] = (
    ("instance", None), ("project", "projects"), ("vault", "vaults"), ("secret", "secrets"),
)  # fmt: skip


@made(ev.RoleBindingCreated)
def _role_bound(world: World, rng: Random) -> ev.InstanceEvent:
    kind, table = rng.choice(_SCOPES)
    scope_id = None if table is None else world.known(table, rng)
    if rng.random() < 0.1:
        scope_id = None if table is not None else world.known("projects", rng)
    return ev.RoleBindingCreated(
        id=world.fresh("role_bindings", rng),
        role_id=world.known("roles", rng),
        user_id=world.known("users", rng),
        scope_kind=kind,
        scope_id=scope_id,
    )


@made(ev.SettingSet)
def _setting_set(world: World, rng: Random) -> ev.InstanceEvent:
    draw = rng.random()
    value = rng.choice(PLAIN) if draw < 0.7 else None
    sealed = world.data(rng) if draw > 0.6 else None
    return ev.SettingSet(name=world.name(rng), value=value, sealed=sealed)


@made(ev.SettingRemoved)
def _setting_removed(world: World, rng: Random) -> ev.InstanceEvent:
    row = world.row("settings", rng)
    known = row and rng.random() < 0.85
    return ev.SettingRemoved(name=row["name"] if known else world.name(rng))


@made(ev.KeyringKeyAdded)
def _data_key_added(world: World, rng: Random) -> ev.InstanceEvent:
    return ev.KeyringKeyAdded(
        id=world.fresh("keyring", rng),
        purpose=rng.choice(("secret", "key", "setting")),
        root_key_id=world.name(rng),
        wrapped=world.data(rng),
        check_value=world.data(rng),
    )


@made(ev.KeyringRewrapped)
def _rewrapped(world: World, rng: Random) -> ev.InstanceEvent:
    keys = [key for (key,) in world.model.state.rows["keyring"]]
    if rng.random() < 0.15:
        keys = [*keys[1:], pooled("keyring", POOL)]
    return ev.KeyringRewrapped(
        root_key_id=world.name(rng), wrapped={key: world.data(rng) for key in keys}
    )
