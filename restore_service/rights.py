"""Owners, grants, row policies and default privileges: the same after a restore as before."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from shared.database import Connection
from shared.errors import AccessError

_SCHEMA_GRANTS = """
SELECT a.privilege_type, a.grantee::regrole::text, a.grantee = 0, a.is_grantable
FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = %s AND a.grantee <> n.nspowner
"""
_TABLE_GRANTS = """
SELECT c.relname, a.privilege_type, a.grantee::regrole::text, a.grantee = 0, a.is_grantable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND a.grantee <> c.relowner
"""
_COLUMN_GRANTS = """
SELECT c.relname, t.attname, a.privilege_type, a.grantee::regrole::text, a.grantee = 0,
       a.is_grantable
FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(t.attacl) a
WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
"""
_DEFAULTS = """
SELECT d.defaclrole::regrole::text, d.defaclobjtype::text, a.privilege_type,
       a.grantee::regrole::text, a.grantee = 0, a.is_grantable
FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) a
WHERE n.nspname = %s
"""
_ROW_SECURITY = """
SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND (c.relrowsecurity OR c.relforcerowsecurity)
"""
_POLICIES = """
SELECT tablename, policyname, permissive, roles, cmd, qual, with_check
FROM pg_policies WHERE schemaname = %s
"""
# Whose default privileges in a schema its owner may not set.
_STRANGE_DEFAULTS = """
SELECT DISTINCT d.defaclrole::regrole::text
FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE n.nspname = %s AND NOT pg_has_role(n.nspowner, d.defaclrole, 'USAGE') ORDER BY 1
"""
_ALL = (
    _SCHEMA_GRANTS, _TABLE_GRANTS, _COLUMN_GRANTS, _DEFAULTS, _ROW_SECURITY, _POLICIES,
)  # fmt: skip
_DEFAULT_KINDS = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES"}


def owner_of(conn: Connection, schema: str) -> str | None:
    """Return the role that owns ``schema``, or None when there is no such schema."""
    row = conn.execute(
        "SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner "
        "WHERE n.nspname = %s",
        (schema,),
    ).fetchone()
    return None if row is None else str(row[0])


def check_defaults(conn: Connection, schema: str) -> None:
    """Raise AccessError when ``schema`` has default privileges that its owner cannot give again."""
    roles = [row[0] for row in conn.execute(_STRANGE_DEFAULTS, (schema,))]
    if roles:
        raise AccessError(
            f"the store has default privileges of {', '.join(roles)}, which its owner cannot set",
            hint="Run as an administrator: ALTER DEFAULT PRIVILEGES FOR ROLE ... IN SCHEMA "
            f"{schema} REVOKE ..., or GRANT that role TO the schema's owner.",
        )


def copy_rights(conn: Connection, source: str, target: str) -> None:
    """Give the tables of ``target`` the rights that those of the same name have in ``source``.

    Those, and no more: what default privileges gave to new tables, or what the tables of a kept
    state had, is taken back first, for it may have been revoked since.
    """
    _take_back(conn, target)
    tables = {
        row[0]
        for row in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (target,))
    }
    for privilege, *grantee in conn.execute(_SCHEMA_GRANTS, (source,)):
        _grant(conn, privilege, sql.SQL("SCHEMA {}").format(sql.Identifier(target)), grantee)
    for table, privilege, *grantee in conn.execute(_TABLE_GRANTS, (source,)):
        if table in tables:
            _grant(conn, privilege, sql.SQL("{}").format(sql.Identifier(target, table)), grantee)
    for table, column, privilege, *grantee in conn.execute(_COLUMN_GRANTS, (source,)):
        if table in tables:
            named = f'{privilege} ("{column}")'
            _grant(conn, named, sql.SQL("{}").format(sql.Identifier(target, table)), grantee)
    for role, letter, privilege, *grantee in conn.execute(_DEFAULTS, (source,)):
        kind = _DEFAULT_KINDS[letter]
        _default(conn, target, role=role, kind=kind, privilege=privilege, grantee=grantee)
    _copy_row_security(conn, source, target, tables)


def renew_rights(conn: Connection, source: str, target: str) -> None:
    """Copy the rights once more if those of ``source`` are not those of ``target`` any more.

    For the moment of a cut-over, when all tables of ``source`` are locked: it is quick where nothing
    was changed. In the caller's transaction, as the owner of ``source``.
    """
    owner = owner_of(conn, source)
    if owner is None or _rights(conn, source) == _rights(conn, target):
        return
    conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    copy_rights(conn, source, target)
    conn.execute("SET LOCAL ROLE NONE")


def _rights(conn: Connection, schema: str) -> list[set[tuple[Any, ...]]]:
    """Return all that ``copy_rights`` copies, in a form in which two schemas can be compared."""
    _look_into(conn, schema)
    found = [
        {tuple(map(_hashable, row)) for row in conn.execute(query, (schema,))} for query in _ALL
    ]
    conn.execute("SET LOCAL search_path TO DEFAULT")
    return found


def _hashable(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list) else value


def _take_back(conn: Connection, schema: str) -> None:
    statement = sql.SQL("REVOKE {} ON {} FROM {}")
    for privilege, *grantee in conn.execute(_SCHEMA_GRANTS, (schema,)).fetchall():
        on = sql.SQL("SCHEMA {}").format(sql.Identifier(schema))
        conn.execute(statement.format(_literal(privilege), on, _grantee(grantee)[0]))
    for table, privilege, *grantee in conn.execute(_TABLE_GRANTS, (schema,)).fetchall():
        on = sql.SQL("{}").format(sql.Identifier(schema, table))
        conn.execute(statement.format(_literal(privilege), on, _grantee(grantee)[0]))
    for table, column, privilege, *grantee in conn.execute(_COLUMN_GRANTS, (schema,)).fetchall():
        on = sql.SQL("{}").format(sql.Identifier(schema, table))
        named = _literal(f'{privilege} ("{column}")')
        conn.execute(statement.format(named, on, _grantee(grantee)[0]))
    for role, letter, privilege, *grantee in conn.execute(_DEFAULTS, (schema,)).fetchall():
        conn.execute(
            sql.SQL(
                "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} REVOKE {} ON {} FROM {}"
            ).format(
                _literal(role),
                sql.Identifier(schema),
                _literal(privilege),
                _literal(_DEFAULT_KINDS[letter]),
                _grantee(grantee)[0],
            )
        )
    _take_row_security_back(conn, schema)


def _take_row_security_back(conn: Connection, schema: str) -> None:
    for table, policy, *_ in conn.execute(_POLICIES, (schema,)).fetchall():
        conn.execute(
            sql.SQL("DROP POLICY {} ON {}").format(
                sql.Identifier(policy), sql.Identifier(schema, table)
            )
        )
    for table, *_ in conn.execute(_ROW_SECURITY, (schema,)).fetchall():
        name = sql.Identifier(schema, table)
        conn.execute(
            sql.SQL(
                "ALTER TABLE {} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY"
            ).format(name)
        )


def _grantee(grantee: list[Any]) -> tuple[sql.Composable, sql.Composable]:
    name, is_public, grantable = grantee
    # regrole already quotes a name that needs it.
    who = sql.SQL("PUBLIC") if is_public else sql.SQL(name)
    return who, sql.SQL(" WITH GRANT OPTION" if grantable else "")


def _grant(conn: Connection, privilege: str, on: sql.Composed, grantee: list[Any]) -> None:
    who, option = _grantee(grantee)
    statement = sql.SQL("GRANT {} ON {} TO {}{}")
    conn.execute(statement.format(_literal(privilege), on, who, option))


def _default(
    conn: Connection, target: str, *, role: str, kind: str, privilege: str, grantee: list[Any]
) -> None:
    who, option = _grantee(grantee)
    conn.execute(
        sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT {} ON {} TO {}{}").format(
            _literal(role), sql.Identifier(target), _literal(privilege), _literal(kind), who, option
        )
    )


def _literal(text: str) -> sql.SQL:
    # From the catalogue of the database itself, where it is quoted already; never from input.
    catalogue_text: Any = text
    return sql.SQL(catalogue_text)


def _copy_row_security(conn: Connection, source: str, target: str, tables: set[str]) -> None:
    for table, enabled, forced in conn.execute(_ROW_SECURITY, (source,)):
        if table not in tables:
            continue
        name = sql.Identifier(target, table)
        if enabled:
            conn.execute(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
        if forced:
            conn.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(name))
    # PostgreSQL writes an expression with names as the path needs them. Read with the one schema
    # on it and made with the other, what a policy says of a table of the store is said of the new one.
    _look_into(conn, source)
    policies = conn.execute(_POLICIES, (source,)).fetchall()
    _look_into(conn, target)
    for table, policy, permissive, roles, command, using, check in policies:
        if table not in tables:
            continue
        named = [sql.SQL("PUBLIC") if r == "public" else sql.Identifier(r) for r in roles]
        statement = sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
            sql.Identifier(policy),
            sql.Identifier(target, table),
            _literal(permissive),
            _literal(command),
            sql.SQL(", ").join(named),
        )
        if using is not None:
            statement += sql.SQL(" USING ({})").format(_literal(using))
        if check is not None:
            statement += sql.SQL(" WITH CHECK ({})").format(_literal(check))
        conn.execute(statement)
    conn.execute("SET LOCAL search_path TO DEFAULT")


def _look_into(conn: Connection, schema: str) -> None:
    conn.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
