"""Into a schema of its own: an archive while it is read and checked, and what follows on the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from restore_service.checks import CheckedArchive, judge_archive, opened_archive
from restore_service.context import AcceptedRehearsal, AcceptedRestore, RestoreContext
from restore_service.hashing import Hashers
from restore_service.rollforward import Way
from restore_service.space import SpaceWatch
from restore_service.staging import check_keyring, empty_schema, migrate_forward
from shared.archive.copybinary import encode_stream, encode_tuple, split_tuples
from shared.archive.manifest import Manifest
from shared.archive.reader import Part, read_ahead
from shared.archive.verify import KEYRING, KEYRING_DATA_KEY, split_key
from shared.database import Connection
from shared.errors import ArchiveError, ArchiveMalformed
from shared.instance.keyring import RootKey
from shared.instance.migrate import create_tables
from shared.instance.replay import replay
from shared.instance.retrace import BEGINNING
from shared.instance.tables import list_tables
from shared.messages.topics import INSTANCE_EVENTS

# Gets the bytes read of the archive and the rows loaded so far, and may raise.
OnLoaded = Callable[[int, int], None]
# What is loaded goes to the disk in pieces of 256 KiB, and not all of it at the commit. A server
# without a way to do that says so by its highest value.
_FLUSH_EARLY = """
SELECT set_config('backend_flush_after', least(max_val::int, 32)::text, true)
FROM pg_settings WHERE name = 'backend_flush_after'
"""


def load_archive(
    context: RestoreContext,
    accepted: AcceptedRestore | AcceptedRehearsal,
    conn: Connection,
    schema: str,
    *,
    space: SpaceWatch,
    hashers: Hashers,
    on_progress: OnLoaded,
) -> CheckedArchive:
    """Make ``schema`` and load the archive into it while it is read and checked: one reading.

    In one transaction of the caller, who commits nothing before this returned: until then the
    archive is not to be trusted. So FREEZE is possible, too, and nothing is left of a failure. Two
    parts are held at a time. ``hashers`` are told what there will be to hash.

    Raises what ``check_archive`` does, and RestoreNoSpace.
    """
    conn.execute(_FLUSH_EARLY)
    with opened_archive(context, accepted.command, accepted.key) as archive:
        loader = _Loader(conn, schema, archive.header.schema_version, context.root)
        for part in read_ahead(archive.parts()):
            space.take(part.size_bytes)
            hashers.expect(part.size_bytes)
            loader.take(part)
            on_progress(archive.size_bytes, loader.rows)
        checked = judge_archive(context, accepted.command, accepted.key, archive)
    loader.finish(checked.manifest)
    return checked


class _Loader:
    """Load parts as they come; what cannot be loaded is told behind what the archive itself shows.

    A part that PostgreSQL does not take says little; that the archive is cut off, or of an unknown
    signer, says more. So the archive is read on, to be judged first.
    """

    def __init__(self, conn: Connection, schema: str, version: int, root: RootKey) -> None:
        self._conn = conn
        self._schema = schema
        self._root = root
        self._fault: ArchiveError | None = None
        self.rows = 0
        create_tables(conn, schema, version)
        self._columns = {
            table.name: [column.name for column in table.columns]
            for table in list_tables(conn, schema)
        }

    def take(self, part: Part) -> None:
        """Load a part, unless one before it could not be loaded."""
        if self._fault is not None:
            return
        try:
            self.rows += self._copy_in(part)
        except ArchiveError as fault:
            self._fault = fault

    def finish(self, manifest: Manifest) -> None:
        """Raise the ArchiveError of a part that could not be loaded, or ArchiveMalformed."""
        if self._fault is not None:
            raise self._fault
        _check_columns(manifest, self._columns)

    def _copy_in(self, part: Part) -> int:
        """Load one part; return how many rows PostgreSQL took."""
        if part.table not in self._columns:
            raise ArchiveMalformed(f"no table {part.table} is known at this schema version")
        pieces, columns = part.pieces, self._columns[part.table]
        if part.table == KEYRING:
            # The data keys come unwrapped: they are wrapped here, in the stream, and nowhere else.
            columns = [name for name in columns if name != "root_key_id"] + ["root_key_id"]
            rows = (_wrapped(row, self._root) for row in split_tuples(part.copy))
            pieces = (encode_stream(rows),)
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
            sql.Identifier(self._schema, part.table),
            sql.SQL(", ").join(map(sql.Identifier, columns)),
        )
        try:
            with self._conn.cursor() as cursor:
                with cursor.copy(query) as copy:
                    for piece in pieces:
                        copy.write(piece)
                return cursor.rowcount
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            # The server's own message may repeat a value.
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


def roll_forward(
    context: RestoreContext,
    way: Way,
    conn: Connection,
    schema: str,
    on_progress: Callable[[int], None],
) -> dict[str, Any]:
    """Fold the events behind the backup into the loaded state; return what became of them.

    Raises MessageUnreadable, KeyringError, KafkaUnavailable.
    """
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with conn.transaction(), context.kafka.log_reader(topic) as reader:
        migrate_forward(conn, schema)
        if way.base == BEGINNING:
            empty_schema(conn, schema)
        replayed = replay(
            conn, schema, reader, context.issuers, way.stretches, on_progress=on_progress
        )
        check_keyring(conn, schema, context.root)
    return {
        "to": way.target,
        "applied": replayed.applied,
        "rejected": replayed.rejected,
        "skipped": dict(replayed.skipped),
    }
