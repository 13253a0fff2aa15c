"""The instance's users as they are now: enabled or not, what they may do, and in which epoch.

Everything is read anew at every request: a restore, a role or a password that changed counts at
once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import errors

from serving.caller import PERMISSIONS
from shared.database import Connection

PERMISSION_PREFIX: Final = "backup."
# How a user's name begins where callers are named: no user can pass for the operator.
USER_PREFIX: Final = "user:"

_PERSON: LiteralString = """
SELECT u.id, u.username, u.display_name, u.enabled, u.password_hash, u.password_changed_at,
  (SELECT epoch FROM instance.log_position),
  ARRAY(SELECT DISTINCT b.role_id::text || ' ' || coalesce(p.permission, '')
        FROM instance.role_bindings b
        LEFT JOIN instance.role_permissions p ON p.role_id = b.role_id
        WHERE b.user_id = u.id AND b.scope_kind = 'instance')
FROM instance.users u WHERE
"""


@dataclass(frozen=True)
class Person:
    """A user of the instance. ``grants`` are ``ROLE_ID PERMISSION`` at the scope instance."""

    user_id: UUID
    username: str
    display_name: str
    enabled: bool
    password_hash: str | None
    password_changed_at: str
    epoch: int
    grants: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Person({self.user_id})"

    @property
    def name(self) -> str:
        """Return the name for the history and the audit trail."""
        return f"{USER_PREFIX}{self.username}"

    @property
    def permissions(self) -> frozenset[str]:
        """Return what the roles at the scope instance allow here; nothing when disabled."""
        if not self.enabled:
            return frozenset()
        granted = {grant.partition(" ")[2] for grant in self.grants}
        return frozenset(p for p in PERMISSIONS if f"{PERMISSION_PREFIX}{p}" in granted)

    @property
    def credential(self) -> bytes:
        """Return a digest that is another one after a change of the password."""
        return _digest([self.password_hash, self.password_changed_at])

    @property
    def rights(self) -> bytes:
        """Return a digest that is another one after a change of the roles."""
        return _digest(list(self.grants))


def person_named(conn: Connection, username: str) -> Person | None:
    """Return the user of that name, or None."""
    return _person(conn, _PERSON + "u.username = %s", username)


def person_with_id(conn: Connection, user_id: UUID) -> Person | None:
    """Return the user of that id, or None."""
    return _person(conn, _PERSON + "u.id = %s", user_id)


def people_who_may(conn: Connection, permission: str) -> list[Person]:
    """Return the enabled users whose roles at the scope instance give ``permission``, by name."""
    query = (
        _PERSON
        + """u.enabled AND EXISTS (
  SELECT FROM instance.role_bindings b
  JOIN instance.role_permissions p ON p.role_id = b.role_id
  WHERE b.user_id = u.id AND b.scope_kind = 'instance' AND p.permission = %s
) ORDER BY u.username, u.id"""
    )
    return _people(conn, query, f"{PERMISSION_PREFIX}{permission}")


def has_users(conn: Connection) -> bool:
    """Tell whether the instance has any user; one that was never folded has none."""
    try:
        with conn.transaction():
            row = conn.execute("SELECT EXISTS (SELECT FROM instance.users)").fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return False
    return bool(row and row[0])


def _person(conn: Connection, query: LiteralString, value: Any) -> Person | None:
    return next(iter(_people(conn, query, value)), None)


def _people(conn: Connection, query: LiteralString, value: Any) -> list[Person]:
    try:
        # A savepoint: what the caller did before stands if there is no instance yet.
        with conn.transaction():
            return [_made(row) for row in conn.execute(query, (value,)).fetchall()]
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return []


def _made(row: tuple[Any, ...]) -> Person:
    user_id, username, display_name, enabled, password_hash, changed_at, epoch, grants = row
    changed = changed_at.isoformat() if changed_at is not None else ""
    return Person(
        user_id, username, display_name, enabled, password_hash, changed, epoch or 0,
        tuple(sorted(grants)),
    )  # fmt: skip


def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value).encode()).digest()
