"""The staging schema: what it is called, whose it is, compared, ready, dropped."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import sql

from restore_service.rights import copy_rights, owner_of
from shared.archive.manifest import Manifest
from shared.archive.verify import KEYRING
from shared.database import Connection, Lock, try_lock
from shared.errors import KeyringError, ManifestMismatch, RestoreFailedError
from shared.instance.digest import InstanceDigest
from shared.instance.keyring import RootKey
from shared.instance.migrate import migrate, schema_version
from shared.instance.position import LogPosition, write_position
from shared.instance.tables import list_tables

log = structlog.get_logger(__name__)

INSTANCE = "instance"
DROP_WAIT_MS = 2000
_STAGING = re.compile(r"^instance_staging_[0-9a-f]{32}$")
_BEFORE = re.compile(r"^instance_before_[0-9a-f]{32}$")
_REHEARSAL = re.compile(r"^instance_rehearsal_[0-9a-f]{32}$")


def staging_name(restore_id: object) -> str:
    """Return the name of a restore's staging schema."""
    return f"instance_staging_{UUID(str(restore_id)).hex}"


def before_name(restore_id: object) -> str:
    """Return the name under which a restore keeps what it replaced."""
    return f"instance_before_{UUID(str(restore_id)).hex}"


def rehearsal_name(rehearsal_id: object) -> str:
    """Return the name of a rehearsal's scratch schema."""
    return f"instance_rehearsal_{UUID(str(rehearsal_id)).hex}"


def become_owner(conn: Connection) -> None:
    """Act as the owner of the instance until the connection ends: what is made is theirs."""
    owner = owner_of(conn, INSTANCE)
    if owner is not None:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))


def owner_connection(dsn: str, *, rehearsing: bool = False) -> Connection:
    """Open a connection in autocommit mode that acts as the owner of the instance.

    No cut-over waits for one that is ``rehearsing``, or ends it: it reads nothing of the instance.
    """
    conn: Connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    try:
        become_owner(conn)
        if rehearsing:
            try_lock(conn, Lock.REHEARSING, shared=True)
    except BaseException:
        conn.close()
        raise
    return conn


def compare_with_manifest(found: InstanceDigest, manifest: Manifest) -> None:
    """Compare what PostgreSQL was found to hold with the manifest. Raises ManifestMismatch."""
    for name, entry in manifest.tables.items():
        table = found.tables[name]
        if (table.rows, table.digest) != (entry.rows, entry.digest):
            raise ManifestMismatch(
                f"{name} was loaded with {table.rows} rows; the manifest says {entry.rows}, "
                "or the content differs"
            )
    if found.digest != manifest.digest:
        raise ManifestMismatch("the loaded state has not the digest of the manifest")


def migrate_forward(conn: Connection, schema: str) -> None:
    """Migrate a loaded or a kept state forward.

    Raises RestoreFailedError when somebody dropped it meanwhile: migrations alone would make it
    anew, and empty.
    """
    if schema_version(conn, schema) == 0:
        raise RestoreFailedError(f"the schema {schema} is gone")
    migrate(conn, schema)


def prepare_takeover(conn: Connection, schema: str, position: LogPosition) -> None:
    """Migrate forward, give the rights of the present schema, write the position."""
    migrate_forward(conn, schema)
    if owner_of(conn, INSTANCE) is not None:
        copy_rights(conn, INSTANCE, schema)
    write_position(conn, replace(position, skipped={}), schema)


def empty_schema(conn: Connection, schema: str) -> None:
    """Take every row out of a staging schema: its state comes from the log alone."""
    tables = sql.SQL(", ").join(table.identifier for table in list_tables(conn, schema))
    conn.execute(sql.SQL("TRUNCATE {}").format(tables))


def check_keyring(
    conn: Connection,
    schema: str,
    root: RootKey,
    *,
    where: str = "on the log",
    hint: str = "Restore where that root key is, or roll forward less far.",
) -> None:
    """Raise KeyringError when a data key lies under another root key than this one.

    The archive's own came unwrapped; those that follow on the log, and those of a state that was
    kept, are wrapped as they were then.
    """
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE root_key_id <> %s").format(
            sql.Identifier(schema, KEYRING)
        ),
        (root.id,),
    ).fetchone()
    if row is not None and row[0]:
        raise KeyringError(
            f"{row[0]} data keys {where} are wrapped under another root key than this place's",
            hint=hint,
        )


def analyze(conn: Connection, schema: str) -> None:
    """Let the planner know the loaded tables; outside of the load's transaction.

    By a quarter of the usual sample: rows are looked up by unique indexes here, and whoever waits
    for a restore waits for this, too. In one transaction, which is on the disk at one time.
    """
    with conn.transaction():
        conn.execute("SET LOCAL default_statistics_target = 25")
        for table in list_tables(conn, schema):
            conn.execute(sql.SQL("ANALYZE {}").format(table.identifier))


def drop_schema(conn: Connection, schema: str) -> None:
    """Drop a staging, an old or a scratch schema, if there is one, and nothing outside of it.

    Raises RestoreFailedError when something outside depends on it, and psycopg.Error when somebody
    renames or drops it meanwhile.
    """
    if not any(kind.match(schema) for kind in (_STAGING, _BEFORE, _REHEARSAL)):
        raise ValueError(f"{schema} is neither a staging, nor an old, nor a scratch schema")
    if schema not in _schemas_of_ours(conn):
        return
    rows: list[Any] = conn.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)
    ).fetchall()
    try:
        if rows:
            names = sql.SQL(", ").join(sql.Identifier(schema, row[0]) for row in rows)
            conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(names))
        # Without IF EXISTS: a cut-over may have renamed it since its tables were found by this
        # name. They are the instance's then, and this error is what keeps them.
        conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(schema)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise RestoreFailedError(f"something outside depends on {schema}") from error


def drop_if_possible(conn: Connection, schema: str) -> bool:
    """Drop a staging, an old or a scratch schema; tell whether it is gone.

    Somebody reads it, or made something in it or on it: nothing waits for that, least of all a
    fence. The next recovery tries again. One that somebody renamed or dropped meanwhile is not ours
    any more.
    """
    try:
        with conn.transaction():
            conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{DROP_WAIT_MS}ms",))
            drop_schema(conn, schema)
            conn.execute("SET LOCAL lock_timeout TO DEFAULT")
    except (
        RestoreFailedError,
        psycopg.errors.LockNotAvailable,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedTable,
        # What PostgreSQL says of a row of its catalogue that another one changed first.
        psycopg.errors.InternalError_,
    ) as error:
        log.warning("schema.not_dropped", schema=schema, reason=str(error))
        return False
    return True


def leftover_schemas(conn: Connection) -> tuple[list[str], list[str]]:
    """Return the staging schemas and the kept old schemas that exist."""
    names = _schemas_of_ours(conn)
    return [n for n in names if _STAGING.match(n)], [n for n in names if _BEFORE.match(n)]


def leftover_rehearsals(conn: Connection) -> list[str]:
    """Return the scratch schemas that exist."""
    return [name for name in _schemas_of_ours(conn) if _REHEARSAL.match(name)]


def _schemas_of_ours(conn: Connection) -> list[str]:
    rows = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'instance\\_%'")
    return [str(row[0]) for row in rows]
