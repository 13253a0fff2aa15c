"""Whose access differs between two states: what one has and the other has not.

Both states are schemas of one database: the instance, a staging schema, or the temporary tables
that an archive's rows of these four tables are put into for a preview.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from restore_service.staging import INSTANCE, owner_connection
from shared.archive.copybinary import encode_stream, encode_tuple, split_fields, split_tuples
from shared.archive.manifest import Manifest
from shared.archive.reader import Part
from shared.database import Connection, postgres_faults
from shared.errors import ArchiveMalformed
from shared.instance import events as ie
from shared.instance.workingset import TABLES

TEMPORARY: Final = "pg_temp"
# Of each kind so many are named; all are counted.
MOST_NAMED: Final = 1000
_SPLIT_BYTES: Final = 1 << 20

# What changes them, or what they give: of a password nothing is asked here.
ACCESS_EVENTS: Final = (
    ie.UserCreated, ie.UserUpdated, ie.UserDeleted, ie.RoleCreated, ie.RoleUpdated, ie.RoleDeleted,
    ie.RolePermissionGranted, ie.RolePermissionRevoked, ie.RoleBindingCreated, ie.RoleBindingRemoved,
)  # fmt: skip
ACCESS_TYPES: Final = frozenset(event.TYPE.encode("ascii") for event in ACCESS_EVENTS)
# Of an archive's rows these columns are looked at: no password's hash among them.
LOADED: Final = {
    "users": ("id", "username", "enabled"),
    "roles": ("id", "name"),
    "role_permissions": ("role_id", "permission"),
    "role_bindings": ("id", "role_id", "user_id", "scope_kind", "scope_id"),
}

# What the state ``ours`` has and the state ``theirs`` has not. A binding that was made anew under
# another id gives the same access: it is in both.
_QUERIES: Final = {
    "users": (
        "SELECT o.id, o.username FROM {ours}.users o "
        "WHERE NOT EXISTS (SELECT FROM {theirs}.users t WHERE t.id = o.id) "
        "ORDER BY o.username, o.id"
    ),
    "users_enabled": (
        "SELECT o.id, o.username FROM {ours}.users o JOIN {theirs}.users t ON t.id = o.id "
        "WHERE o.enabled AND NOT t.enabled ORDER BY o.username, o.id"
    ),
    "roles": (
        "SELECT o.id, o.name FROM {ours}.roles o "
        "WHERE NOT EXISTS (SELECT FROM {theirs}.roles t WHERE t.id = o.id) ORDER BY o.name, o.id"
    ),
    "role_permissions": (
        "SELECT o.role_id, r.name AS role, o.permission FROM {ours}.role_permissions o "
        "LEFT JOIN {ours}.roles r ON r.id = o.role_id "
        "WHERE NOT EXISTS (SELECT FROM {theirs}.role_permissions t "
        "WHERE t.role_id = o.role_id AND t.permission = o.permission) "
        "ORDER BY r.name, o.role_id, o.permission"
    ),
    "role_bindings": (
        "SELECT o.id, o.user_id, u.username AS user, o.role_id, r.name AS role, o.scope_kind, "
        "o.scope_id FROM {ours}.role_bindings o LEFT JOIN {ours}.users u ON u.id = o.user_id "
        "LEFT JOIN {ours}.roles r ON r.id = o.role_id "
        "WHERE NOT EXISTS (SELECT FROM {theirs}.role_bindings t "
        "WHERE t.user_id = o.user_id AND t.role_id = o.role_id "
        "AND t.scope_kind = o.scope_kind AND t.scope_id IS NOT DISTINCT FROM o.scope_id) "
        "ORDER BY u.username, r.name, o.id"
    ),
}
KINDS: Final = tuple(_QUERIES)


def access_only_in(
    conn: Connection, ours: str, theirs: str, most: int = MOST_NAMED
) -> dict[str, Any]:
    """Return the access that ``ours`` has and ``theirs`` has not: counted, the first named.

    In the caller's transaction. By kind: ``count`` and ``named``, rows with ids and names.
    """
    # Rows that a policy hides would look as if they were not there.
    conn.execute("SET LOCAL row_security = off")
    found: dict[str, Any] = {}
    for kind, text in _QUERIES.items():
        query = sql.SQL("SELECT *, count(*) OVER () AS of_all FROM ({}) found LIMIT %s").format(
            sql.SQL(text).format(ours=sql.Identifier(ours), theirs=sql.Identifier(theirs))
        )
        with conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(query, (most,)).fetchall()
        count = rows[0]["of_all"] if rows else 0
        found[kind] = {"count": count, "named": [_shown(row) for row in rows]}
    return found


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    plain = (str, type(None))
    return {
        name: value if isinstance(value, plain) else str(value)
        for name, value in row.items()
        if name != "of_all"
    }


class ArchivedAccess:
    """The access rows of an archive, in temporary tables of one session: gone when that ends.

    No transaction is held open between the parts: nobody waits for this session.
    """

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        for name, columns in LOADED.items():
            types = TABLES[name].columns
            conn.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} ({})").format(
                    sql.Identifier(name),
                    sql.SQL(", ").join(
                        sql.SQL("{} {}").format(sql.Identifier(c), sql.SQL(types[c]))
                        for c in columns
                    ),
                )
            )

    def take(self, part: Part) -> None:
        """Take in the rows of a part; those of other tables are left. Raises ArchiveMalformed."""
        wanted = LOADED.get(part.table)
        if wanted is None:
            return
        places = [list(TABLES[part.table].columns).index(column) for column in wanted]
        stream = encode_stream(_chosen(row, places) for row in split_tuples(part.copy))
        query = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(
            sql.Identifier(TEMPORARY, part.table)
        )
        try:
            with self.conn.cursor() as cursor, cursor.copy(query) as copy:
                for start in range(0, len(stream), _SPLIT_BYTES):
                    copy.write(memoryview(stream)[start : start + _SPLIT_BYTES])
        except psycopg.DataError as error:
            raise ArchiveMalformed(
                f"PostgreSQL does not take a part of {part.table} ({type(error).__name__})"
            ) from None

    def check(self, manifest: Manifest) -> None:
        """Compare the places that the columns were taken from. Raises ArchiveMalformed."""
        for name, wanted in LOADED.items():
            places = list(TABLES[name].columns)
            found = [column.name for column in manifest.tables[name].columns]
            if any(found.index(c) != places.index(c) if c in found else True for c in wanted):
                raise ArchiveMalformed(f"the columns of {name} are not those of its schema version")

    def compare(self) -> dict[str, Any]:
        """Return what a restore would bring back and what it would take, against the instance."""
        with self.conn.transaction():
            # One snapshot, and a short one: a cut-over waits for it.
            self.conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            return {
                "returning": access_only_in(self.conn, TEMPORARY, INSTANCE),
                "vanishing": access_only_in(self.conn, INSTANCE, TEMPORARY),
            }


def _chosen(row: bytes, places: list[int]) -> bytes:
    fields = split_fields(row)
    if len(fields) <= max(places):
        raise ArchiveMalformed("a row of the archive has too few fields")
    return encode_tuple([fields[place] for place in places])


@contextmanager
def archived_access(dsn: str) -> Iterator[ArchivedAccess]:
    """Open a session with empty temporary tables. Raises PostgresUnavailable."""
    with postgres_faults("comparing access"), owner_connection(dsn) as conn:
        yield ArchivedAccess(conn)
