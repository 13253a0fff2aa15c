"""The staging schema: our own migrations, loaded from an archive's parts, compared, ready."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import sql

from restore_service.rights import copy_rights, owner_of
from shared.archive.copybinary import encode_stream, encode_tuple, split_tuples
from shared.archive.manifest import Manifest
from shared.archive.reader import ArchiveReader, Part, read_ahead
from shared.archive.verify import KEYRING, KEYRING_DATA_KEY, split_key
from shared.database import Connection
from shared.errors import ArchiveMalformed, KeyringError, ManifestMismatch, RestoreFailedError
from shared.instance.digest import InstanceDigest, digest_schema
from shared.instance.keyring import RootKey
from shared.instance.migrate import create_tables, migrate
from shared.instance.position import LogPosition, write_position
from shared.instance.tables import list_tables

log = structlog.get_logger(__name__)

INSTANCE = "instance"
# Gets the bytes read of the archive and the rows loaded so far, and may raise.
OnLoaded = Callable[[int, int], None]
_SPLIT_BYTES = 1 << 20
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


def owner_connection(dsn: str) -> Connection:
    """Open a connection in autocommit mode that acts as the owner of the instance."""
    conn: Connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    become_owner(conn)
    return conn


def load_staging(
    conn: Connection,
    archive: ArchiveReader,
    schema: str,
    root: RootKey,
    on_progress: OnLoaded,
) -> Manifest:
    """Make ``schema`` and load every part; return the checked manifest.

    In one transaction of the caller: FREEZE is possible, and nothing is left of a failure.
    Two parts are held at a time. Raises the ArchiveErrors, RestoreFailedError.
    """
    create_tables(conn, schema, archive.header.schema_version)
    columns = {
        table.name: [column.name for column in table.columns] for table in list_tables(conn, schema)
    }
    rows = 0
    for part in read_ahead(archive.parts()):
        if part.table not in columns:
            raise ArchiveMalformed(f"no table {part.table} is known at this schema version")
        rows += _copy_in(conn, schema, part, columns[part.table], root)
        on_progress(archive.size_bytes, rows)
    _check_columns(archive.manifest, columns)
    return archive.manifest


def _copy_in(conn: Connection, schema: str, part: Part, columns: list[str], root: RootKey) -> int:
    """Load one part; return how many rows PostgreSQL took."""
    stream: bytes = part.copy
    if part.table == KEYRING:
        # The data keys come unwrapped: they are wrapped here, in the stream, and nowhere else.
        columns = [name for name in columns if name != "root_key_id"] + ["root_key_id"]
        stream = encode_stream(_wrapped(row, root) for row in split_tuples(part.copy))
    query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
        sql.Identifier(schema, part.table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    try:
        with conn.cursor() as cursor:
            with cursor.copy(query) as copy:
                for start in range(0, len(stream), _SPLIT_BYTES):
                    copy.write(memoryview(stream)[start : start + _SPLIT_BYTES])
            return cursor.rowcount
    except psycopg.DataError as error:
        raise ArchiveMalformed(
            f"PostgreSQL does not take a part of {part.table} ({type(error).__name__})"
        ) from None


def _wrapped(row: bytes, root: RootKey) -> bytes:
    data_key, fields = split_key(row)
    fields[KEYRING_DATA_KEY] = root.wrap(data_key)
    return encode_tuple([*fields, root.id.encode("ascii")])


def _check_columns(manifest: Manifest, columns: Mapping[str, list[str]]) -> None:
    if set(manifest.tables) != set(columns):
        raise ArchiveMalformed("the archive's tables are not those of its schema version")
    for name, entry in manifest.tables.items():
        found = [column.name for column in entry.columns]
        expected = list(columns[name])
        if name == KEYRING:
            expected = ["data_key" if c == "wrapped" else c for c in expected]
            expected.remove("root_key_id")
        if found != expected:
            raise ArchiveMalformed(f"the columns of {name} are not those of its schema version")


def compare_with_manifest(conn: Connection, schema: str, manifest: Manifest) -> InstanceDigest:
    """Compute what PostgreSQL now holds and compare it with the manifest, row by row.

    Raises ManifestMismatch.
    """
    found = digest_schema(conn, schema)
    for name, entry in manifest.tables.items():
        table = found.tables[name]
        if (table.rows, table.digest) != (entry.rows, entry.digest):
            raise ManifestMismatch(
                f"{name} was loaded with {table.rows} rows; the manifest says {entry.rows}, "
                "or the content differs"
            )
    if found.digest != manifest.digest:
        raise ManifestMismatch("the loaded state has not the digest of the manifest")
    return found


def prepare_takeover(conn: Connection, schema: str, position: LogPosition) -> None:
    """Migrate forward, give the rights of the present schema, write the position."""
    migrate(conn, schema)
    if owner_of(conn, INSTANCE) is not None:
        copy_rights(conn, INSTANCE, schema)
    write_position(conn, replace(position, skipped={}), schema)


def empty_schema(conn: Connection, schema: str) -> None:
    """Take every row out of a staging schema: its state comes from the log alone."""
    tables = sql.SQL(", ").join(table.identifier for table in list_tables(conn, schema))
    conn.execute(sql.SQL("TRUNCATE {}").format(tables))


def check_keyring(conn: Connection, schema: str, root: RootKey) -> None:
    """Raise KeyringError when a data key came from the log under another root key than this one.

    The archive's own came unwrapped; those that follow on the log are wrapped as they were then.
    """
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE root_key_id <> %s").format(
            sql.Identifier(schema, KEYRING)
        ),
        (root.id,),
    ).fetchone()
    if row is not None and row[0]:
        raise KeyringError(
            f"{row[0]} data keys on the log are wrapped under another root key than this place's",
            hint="Restore where that root key is, or roll forward less far.",
        )


def analyze(conn: Connection, schema: str) -> None:
    """Let the planner know the loaded tables; outside of the load's transaction."""
    for table in list_tables(conn, schema):
        conn.execute(sql.SQL("ANALYZE {}").format(table.identifier))


def drop_schema(conn: Connection, schema: str) -> None:
    """Drop a staging, an old or a scratch schema and nothing outside of it.

    Raises RestoreFailedError when something outside depends on it.
    """
    if not any(kind.match(schema) for kind in (_STAGING, _BEFORE, _REHEARSAL)):
        raise ValueError(f"{schema} is neither a staging, nor an old, nor a scratch schema")
    rows: list[Any] = conn.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,)
    ).fetchall()
    try:
        if rows:
            names = sql.SQL(", ").join(sql.Identifier(schema, row[0]) for row in rows)
            conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(names))
        conn.execute(sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(sql.Identifier(schema)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise RestoreFailedError(f"something outside depends on {schema}") from error


def drop_if_possible(conn: Connection, schema: str) -> bool:
    """Drop a staging, an old or a scratch schema; tell whether it is gone.

    Somebody reads it, or made something in it or on it: nothing waits for that, least of all a
    fence. The next recovery tries again.
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
