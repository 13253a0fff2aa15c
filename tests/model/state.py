"""The tables as plain dicts, and the questions that a rule asks of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from uuid import UUID

Key = tuple[Any, ...]
Row = dict[str, Any]
Tables = dict[str, dict[Key, Row]]

KEYS: dict[str, tuple[str, ...]] = {
    "projects": ("id",),
    "vaults": ("id",),
    "secrets": ("id",),
    "secret_versions": ("secret_id", "version"),
    "keys": ("id",),
    "key_versions": ("key_id", "version"),
    "certificates": ("id",),
    "certificate_versions": ("certificate_id", "version"),
    "users": ("id",),
    "roles": ("id",),
    "role_permissions": ("role_id", "permission"),
    "role_bindings": ("id",),
    "settings": ("name",),
    "keyring": ("id",),
    "rejections": ("event_offset",),
}


class Refused(Exception):
    """The event contradicts the state; the message is the code."""


class State:
    """Every row of an instance, by table and key."""

    def __init__(self) -> None:
        self.rows: Tables = {name: {} for name in KEYS}

    def copy(self) -> State:
        """Return a state of its own with the same rows."""
        other = State()
        other.rows = deepcopy(self.rows)
        return other

    def put(self, table: str, **row: Any) -> None:
        """Insert or replace a row."""
        self.rows[table][tuple(row[column] for column in KEYS[table])] = row

    def drop(self, table: str, **where: Any) -> None:
        """Remove every row with these values."""
        rows = self.rows[table]
        gone = [key for key, row in rows.items() if all(row[name] == where[name] for name in where)]
        for key in gone:
            del rows[key]

    def there(self, table: str, *key: Any) -> Row:
        """Return the row. Refuse the event when there is none."""
        if key not in self.rows[table]:
            raise Refused("missing")
        return self.rows[table][key]

    def living(self, table: str, key: UUID) -> Row:
        """Return the row. Refuse the event when there is none, or a deleted one."""
        row = self.there(table, key)
        if row["deleted_at"] is not None:
            raise Refused("deleted")
        return row

    def new(self, table: str, *key: Any) -> None:
        """Refuse the event when there is such a row."""
        if key in self.rows[table]:
            raise Refused("exists")

    def name_free(self, table: str, own: UUID, **name: Any) -> None:
        """Refuse the event when another row has this name; deleted ones keep theirs."""
        for row in self.rows[table].values():
            if row["id"] != own and all(row[column] == name[column] for column in name):
                raise Refused("name_taken")
