"""Roles, permissions and users of one copy, and what happens to them later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from argon2 import PasswordHasher

from shared.instance import events as ev
from shared.instance.sample import names, values
from shared.instance.sample.source import Source
from shared.instance.writer import NewEvent

USERS: Final = 80
SALT_BYTES: Final = 16

ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "owner": (
        *("project.create", "project.delete", "vault.create", "vault.delete", "secret.read"),
        *("secret.write", "key.use", "key.rotate", "certificate.issue", "role.bind"),
    ),
    "administrator": (
        "project.create",
        "vault.create",
        "user.manage",
        "role.bind",
        "setting.write",
    ),
    "developer": ("secret.read", "secret.write", "key.use"),
    "reader": ("secret.read",),
    "auditor": ("audit.read", "secret.list"),
    "ci": ("secret.read", "key.use"),
    "operator": ("backup.create", "backup.download", "restore.start"),
    "Prüfer*in": ("audit.read", "certificate.list"),
}
# Real Argon2id with its smallest cost: a sample's passwords guard nothing.
_HASHER: Final = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, salt_len=SALT_BYTES)


@dataclass
class People:
    """Who exists by the end of the first part."""

    users: list[UUID] = field(default_factory=list)
    roles: list[UUID] = field(default_factory=list)
    bindings: list[UUID] = field(default_factory=list)


def arrive(source: Source, people: People) -> Iterator[NewEvent]:
    """Create the roles with their permissions, then the users with their passwords."""
    for name, permissions in ROLES.items():
        role = source.uuid()
        people.roles.append(role)
        # Half of the permissions come with the role, half are granted one by one.
        half = len(permissions) // 2
        yield source.draft(
            ev.RoleCreated(
                id=role,
                name=name + source.tail,
                description=f"Whoever works as {name}",
                permissions=permissions[:half],
            )
        )
        for permission in permissions[half:]:
            yield source.draft(ev.RolePermissionGranted(id=role, permission=permission))
    for number in range(USERS):
        person = names.person(number, source.tail)
        user = source.uuid()
        people.users.append(user)
        # Some sign in elsewhere (OIDC) and have no password here.
        hashed = None if source.chance(0.1) else password_hash(source)
        yield source.draft(
            ev.UserCreated(
                id=user,
                username=person.username,
                display_name=person.display_name,
                email=person.email,
                password_hash=hashed,
            )
        )


def password_hash(source: Source) -> str:
    """Return the Argon2id hash of a sample password, salted from the seed."""
    salt = source.rng.randbytes(SALT_BYTES)
    return _HASHER.hash(values.password(source.rng), salt=salt)


def bind(
    source: Source, people: People, scopes: Mapping[ev.ScopeKind, list[UUID]], count: int
) -> Iterator[NewEvent]:
    """Give ``count`` users a role at one of ``scopes``; the instance needs no id."""
    for _ in range(count):
        kind = source.rng.choice(tuple(scopes))
        binding = source.uuid()
        people.bindings.append(binding)
        yield source.draft(
            ev.RoleBindingCreated(
                id=binding,
                role_id=source.rng.choice(people.roles),
                user_id=source.rng.choice(people.users),
                scope_kind=kind,
                scope_id=source.rng.choice(scopes[kind]) if scopes[kind] else None,
            )
        )


def leave(source: Source, people: People) -> Iterator[NewEvent]:
    """Change passwords and names, disable and delete users, take bindings and rights back."""
    for user in source.some(people.users, 0.1):
        yield source.draft(
            ev.UserPasswordChanged(id=user, password_hash=password_hash(source)), actor=str(user)
        )
    for number, user in enumerate(source.some(people.users, 0.1)):
        person = names.person(USERS + number, source.tail)
        yield source.draft(
            ev.UserUpdated(
                id=user,
                display_name=person.display_name,
                email=person.email,
                enabled=source.chance(0.7),
            )
        )
    # Bindings first: a deleted user takes its bindings with it.
    for binding in source.some(people.bindings, 0.05):
        yield source.draft(ev.RoleBindingRemoved(id=binding))
    for user in source.some(people.users, 0.04):
        yield source.draft(ev.UserDeleted(id=user))
    yield source.draft(ev.RolePermissionRevoked(id=people.roles[-1], permission="certificate.list"))
