"""The rows that one batch of events refers to, in memory: what the fold reads and changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """What the fold must know of a table: its columns, its key, its other unique name."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    unique: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()

    def key_of(self, row: Row) -> Key:
        """Return the primary key of ``row``."""
        return tuple(row[column] for column in self.key)

    def name_of(self, row: Row) -> Key:
        """Return the unique name of ``row``."""
        return tuple(row[column] for column in self.unique)


def _columns(text: str) -> dict[str, str]:
    return dict(part.split(":") for part in text.split())


_OWNED = "created_at:timestamptz created_by:text deleted_at:timestamptz"

# Parents before children: the order of writing; the reverse is the order of deleting.
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("projects", _columns(f"id:uuid name:text description:text {_OWNED}"), ("id",),
              ("name",)),
        Table("vaults", _columns(f"id:uuid project_id:uuid name:text restricted:bool {_OWNED}"),
              ("id",), ("project_id", "name")),
        Table("secrets", _columns("id:uuid vault_id:uuid name:text kind:text labels:jsonb "
              f"current_version:int4 {_OWNED}"), ("id",), ("vault_id", "name")),
        Table("secret_versions", _columns("secret_id:uuid version:int4 sealed:bytea "
              "size_bytes:int4 created_at:timestamptz created_by:text"), ("secret_id", "version"),
              parents=("secret_id",)),
        Table("keys", _columns("id:uuid vault_id:uuid name:text algorithm:text "
              f"current_version:int4 {_OWNED}"), ("id",), ("vault_id", "name")),
        Table("key_versions", _columns("key_id:uuid version:int4 public_key:bytea "
              "sealed_private:bytea created_at:timestamptz created_by:text"),
              ("key_id", "version")),
        Table("certificates", _columns("id:uuid vault_id:uuid name:text current_version:int4 "
              f"{_OWNED}"), ("id",), ("vault_id", "name")),
        Table("certificate_versions", _columns("certificate_id:uuid version:int4 der:bytea "
              "subject:text issuer:text serial:text not_before:timestamptz not_after:timestamptz "
              "key_id:uuid revoked_at:timestamptz created_at:timestamptz created_by:text"),
              ("certificate_id", "version")),
        Table("users", _columns("id:uuid username:text display_name:text email:text "
              "password_hash:text enabled:bool created_at:timestamptz "
              "password_changed_at:timestamptz"), ("id",), ("username",)),
        Table("roles", _columns("id:uuid name:text description:text created_at:timestamptz"),
              ("id",), ("name",)),
        Table("role_permissions", _columns("role_id:uuid permission:text"),
              ("role_id", "permission"), parents=("role_id",)),
        Table("role_bindings", _columns("id:uuid role_id:uuid user_id:uuid scope_kind:text "
              "scope_id:uuid created_at:timestamptz created_by:text"), ("id",),
              parents=("role_id", "user_id")),
        Table("settings", _columns("name:text value:jsonb sealed:bytea updated_at:timestamptz "
              "updated_by:text"), ("name",)),
        Table("keyring", _columns("id:uuid purpose:text state:text root_key_id:text wrapped:bytea "
              "check_value:bytea created_at:timestamptz"), ("id",)),
        Table("rejections", _columns("event_offset:int8 event_id:uuid event_type:text code:text "
              "detail:text event_time:timestamptz actor:text"), ("event_offset",)),
    )
}  # fmt: skip


@dataclass
class Needs:
    """What has to be loaded before a batch is folded: keys and unique names, by table."""

    keys: defaultdict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    names: defaultdict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))
    whole: set[str] = field(default_factory=set)


class WorkingSet:
    """Rows by key; a key that maps to None is known to have no row.

    Reading a key that was not loaded is a defect of the fold and raises KeyError.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[Key, Row | None]] = {name: {} for name in TABLES}
        self._named: dict[str, dict[Key, Key | None]] = {name: {} for name in TABLES}
        # Dicts as sets that keep their order: the order of the events is order enough.
        self._children: defaultdict[tuple[str, str, Any], dict[Key, None]] = defaultdict(dict)
        self._changed: dict[str, dict[Key, None]] = {name: {} for name in TABLES}
        self.child_deletes: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)

    def load(self, needs: Needs, found: Mapping[str, Iterable[Row]]) -> None:
        """Take in what was found of ``needs``; what was not found is known to be absent."""
        for name, keys in needs.keys.items():
            self._rows[name].update(dict.fromkeys(keys))
        for name, names in needs.names.items():
            self._named[name].update(dict.fromkeys(names))
        for name, rows in found.items():
            for row in rows:
                self._enter(TABLES[name], row)

    def _enter(self, table: Table, row: Row) -> Key:
        key = table.key_of(row)
        self._rows[table.name][key] = row
        if table.unique:
            self._named[table.name][table.name_of(row)] = key
        for parent in table.parents:
            self._children[table.name, parent, row[parent]][key] = None
        return key

    def get(self, name: str, *key: Any) -> Row | None:
        """Return the row of table ``name`` at ``key``, or None. Do not change it: ``put`` a copy."""
        return self._rows[name][key]

    def holder(self, name: str, *unique: Any) -> Key | None:
        """Return the key of the row that has this unique name, or None."""
        return self._named[name][unique]

    def all(self, name: str) -> list[Row]:
        """Return every row of a table that was loaded whole."""
        return [row for row in self._rows[name].values() if row is not None]

    def put(self, name: str, row: Row) -> None:
        """Insert or replace a row."""
        table = TABLES[name]
        self._forget_name(table, table.key_of(row))
        self._changed[name][self._enter(table, row)] = None

    def delete(self, name: str, *key: Any) -> None:
        """Remove a row; nothing happens when there is none."""
        self._forget_name(TABLES[name], key)
        self._rows[name][key] = None
        self._changed[name][key] = None

    def delete_children(self, name: str, parent: str, parent_id: Any) -> None:
        """Remove every row of table ``name`` whose column ``parent`` is ``parent_id``."""
        for key in self._children.pop((name, parent, parent_id), ()):
            row = self._rows[name].get(key)
            if row is not None and row[parent] == parent_id:
                self.delete(name, *key)
        self.child_deletes[name, parent].append(parent_id)

    def _forget_name(self, table: Table, key: Key) -> None:
        row = self._rows[table.name].get(key)
        if row is not None and table.unique:
            self._named[table.name][table.name_of(row)] = None

    def written(self, name: str) -> list[Row]:
        """Return the rows to be inserted or replaced, in the order of the events."""
        rows = self._rows[name]
        return [row for key in self._changed[name] if (row := rows[key]) is not None]

    def deleted(self, name: str) -> list[Key]:
        """Return the keys of the rows to be removed, in the order of the events."""
        rows = self._rows[name]
        return [key for key in self._changed[name] if rows[key] is None]
