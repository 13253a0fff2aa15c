"""Into a schema of its own: an archive while it is read and checked, and what follows on the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql

from restore_service.chapters import (
    CHAPTER_BYTES,
    NOWHERE,
    Chapter,
    ChapterWriter,
    copy_in,
    not_taken,
)
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

# Gets the bytes read of the archive and the rows loaded so far (a chapter at a time), and may raise.
OnLoaded = Callable[[int, int], None]
# What is loaded goes to the disk in pieces of 256 KiB, and not all of it at the commit. A server
# without a way to do that says so by its highest value.
_FLUSH_EARLY = """
SELECT set_config('backend_flush_after', least(max_val::int, 32)::text, true)
FROM pg_settings WHERE name = 'backend_flush_after'
"""


@dataclass(frozen=True)
class Loaded:
    """An archive that was loaded and may be restored, and in which chapters its rows lie."""

    checked: CheckedArchive
    chapters: Sequence[Chapter]


def load_archive(
    context: RestoreContext,
    accepted: AcceptedRestore | AcceptedRehearsal,
    conn: Connection,
    schema: str,
    *,
    space: SpaceWatch,
    hashers: Hashers,
    on_progress: OnLoaded,
) -> Loaded:
    """Make ``schema`` and load the archive into it while it is read and checked: one reading.

    In one transaction of the caller, who commits nothing before this returned: until then the
    archive is not to be trusted. So FREEZE is possible, too, and nothing is left of a failure. Two
    parts are held at a time, and one of the keyring twice. ``hashers`` are told what there will be to hash.

    Raises what ``check_archive`` does, and RestoreNoSpace.
    """
    conn.execute(_FLUSH_EARLY)
    with opened_archive(context, accepted.command, accepted.key) as archive:
        with _Loader(conn, schema, archive.header.schema_version, context.root) as loader:
            for part in read_ahead(archive.parts()):
                space.take(part.size_bytes)
                hashers.expect(part.size_bytes)
                loader.take(part)
                on_progress(archive.size_bytes, loader.rows)
            loader.end()
        checked = judge_archive(context, accepted.command, accepted.key, archive)
    loader.check(checked.manifest)
    return Loaded(checked, loader.chapters)


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
        self._open: ChapterWriter | None = None
        self.chapters: list[Chapter] = []
        self.rows = 0
        create_tables(conn, schema, version)
        self._columns = {
            table.name: [column.name for column in table.columns]
            for table in list_tables(conn, schema)
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._open is not None and error is not None:
            self._open.abort(error)

    def take(self, part: Part) -> None:
        """Load a part, unless one before it could not be loaded."""
        if self._fault is not None:
            return
        try:
            self._load(part)
        except ArchiveError as fault:
            self._give_up(fault)

    def end(self) -> None:
        """Load what is left, behind the last part."""
        try:
            self._close()
        except ArchiveError as fault:
            self._give_up(fault)

    def check(self, manifest: Manifest) -> None:
        """Raise the ArchiveError of what could not be loaded, or ArchiveMalformed."""
        if self._fault is not None:
            raise self._fault
        _check_columns(manifest, self._columns)

    def _load(self, part: Part) -> None:
        if part.table not in self._columns:
            raise ArchiveMalformed(f"no table {part.table} is known at this schema version")
        if part.table == KEYRING:
            self._close()
            self.rows += self._load_keys(part)
            return
        if self._open is not None and (
            self._open.table != part.table
            or self._open.size_bytes + part.size_bytes > CHAPTER_BYTES
        ):
            self._close()
        if self._open is None:
            self._open = self._begin(part.table)
        self._open.write(part)

    def _begin(self, table: str) -> ChapterWriter:
        before = self.chapters[-1] if self.chapters else None
        after = before.last if before is not None and before.table == table else NOWHERE
        identifier = sql.Identifier(self._schema, table)
        return ChapterWriter(self._conn, identifier, self._columns[table], table, after)

    def _close(self) -> None:
        if self._open is not None:
            writer, self._open = self._open, None
            self.chapters.append(writer.close())
            self.rows += self.chapters[-1].rows

    def _give_up(self, fault: ArchiveError) -> None:
        self._fault = fault
        if self._open is not None:
            writer, self._open = self._open, None
            writer.abort(fault)

    def _load_keys(self, part: Part) -> int:
        """Load data keys, and return how many.

        They come unwrapped: they are wrapped here, in the stream, and nowhere else.
        """
        columns = [name for name in self._columns[KEYRING] if name != "root_key_id"]
        query = copy_in(sql.Identifier(self._schema, KEYRING), [*columns, "root_key_id"])
        stream = encode_stream(_wrapped(row, self._root) for row in split_tuples(part.copy))
        try:
            with self._conn.cursor() as cursor:
                with cursor.copy(query) as copy:
                    copy.write(stream)
                return cursor.rowcount
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise not_taken(KEYRING, error) from None


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
