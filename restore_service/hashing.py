"""Rows of committed tables, hashed in several processes at once (``restore_service.hasher``)."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

from psycopg import sql

from restore_service import hasher
from restore_service.chapters import Chapter
from restore_service.hasherprocess import Answer, Hasher
from restore_service.rights import owner_of
from restore_service.settings import RestoreServiceSettings
from restore_service.staging import INSTANCE, owner_connection
from shared.copyout import copy_rows
from shared.database import LOCK_SPACE, Connection, Lock
from shared.instance.digest import InstanceDigest, TableDigest, TableState, digest_query
from shared.instance.migrate import schema_version
from shared.instance.tables import TableInfo, list_tables

PAGE_BYTES: Final = 8192
# A range is under a second's work for one process.
RANGE_PAGES: Final = 4096
# What is hashed before others would have started is hashed in this process.
ALONE_BYTES: Final = 48 * 1024 * 1024
LOOK_S: Final = 0.2

# Gets the bytes of tables and the rows hashed so far, now and then, and may raise.
OnHashed = Callable[[int, int], None]


@dataclass(frozen=True)
class Hashing:
    """How rows are hashed: over which connections, and in how many processes."""

    dsn: str
    processes: int
    rehearsing: bool

    @classmethod
    def by(cls, settings: RestoreServiceSettings, *, rehearsing: bool = False) -> Self:
        """Return what the settings say."""
        return cls(settings.postgres.dsn, settings.restore.hashers, rehearsing)

    def connect(self) -> Connection:
        """Open one more session that acts as the owner of the instance."""
        return owner_connection(self.dsn, rehearsing=self.rehearsing)


@dataclass(frozen=True)
class _Range:
    """Some rows of a table: their COPY, the bytes that they take, and the chapter that they were."""

    table: str
    query: sql.Composed
    size_bytes: int
    chapter: Chapter | None = None


_Answers = Iterator[tuple[_Range | None, Answer]]


class Hashers:
    """The processes that hash the rows of one loaded schema; they end with the block.

    To start takes them a while: as soon as it is known that they are wanted they are started.
    """

    def __init__(self, hashing: Hashing) -> None:
        self._hashing = hashing
        self._stack = ExitStack()
        self._processes: list[Hasher] = []
        self._expected_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def started(self) -> bool:
        """Tell whether there is more to hash than this process does by itself."""
        return bool(self._processes)

    def connect(self) -> Connection:
        """Open one more session as theirs are."""
        return self._hashing.connect()

    def expect(self, size_bytes: int) -> None:
        """Be told of so much more to hash; start the processes if that is more than one does."""
        self._expected_bytes += size_bytes
        if self._expected_bytes >= ALONE_BYTES and not self._processes:
            for _ in range(self._hashing.processes):
                self._processes.append(self._stack.enter_context(Hasher()))

    def digest(self, conn: Connection, schema: str, on_hashed: OnHashed) -> InstanceDigest:
        """Compute the digest of a committed schema that nobody writes, on several cores.

        Raises PostgresUnavailable, RestoreFailedError, and what ``on_hashed`` does.
        """
        tables = list_tables(conn, schema)
        ranges = [each for table in tables for each in _ranges(conn, table)]
        self.expect(max(0, sum(each.size_bytes for each in ranges) - self._expected_bytes))
        found = self._answers(conn, ranges) if self.started else _hash_alone(conn, ranges)
        digests = {table.name: TableDigest() for table in tables}
        for each, answer in _told(found, on_hashed):
            digests[each.table].merge(TableDigest.of(answer.row_sum, answer.rows))
        return InstanceDigest(
            schema_version(conn, schema),
            {name: TableState(each.rows, each.hexdigest(name)) for name, each in digests.items()},
        )

    def differing(
        self, conn: Connection, schema: str, chapters: Sequence[Chapter], on_hashed: OnHashed
    ) -> Chapter | None:
        """Return a chapter that does not come out as it went in, row behind row; None: all do.

        Raises PostgresUnavailable, RestoreFailedError, and what ``on_hashed`` does.
        """
        tables = {table.name: table for table in list_tables(conn, schema)}
        finals = {chapter.table: chapter for chapter in chapters}
        ranges = [
            _Range(
                chapter.table,
                chapter.query(tables[chapter.table], is_final=chapter is finals[chapter.table]),
                chapter.size_bytes,
                chapter,
            )
            for chapter in chapters
        ]
        for each, answer in _told(self._answers(conn, ranges), on_hashed):
            chapter = each.chapter
            assert chapter is not None
            if (answer.rows, answer.sha256) != (chapter.rows, chapter.sha256):
                # They are busy with what nobody wants any more.
                self._restart()
                return chapter
        return None

    def _restart(self) -> None:
        self._stack.close()
        self._processes = []
        self.expect(0)

    def _answers(self, conn: Connection, ranges: Sequence[_Range]) -> _Answers:
        """Yield ranges with what is answered, as it becomes known; None where one has to wait."""
        session, left = _session(conn, self._hashing), iter(ranges)
        asked: dict[Hasher, _Range] = {}
        with selectors.DefaultSelector() as answers:

            def ask_next(process: Hasher) -> None:
                following = next(left, None)
                if following is None:
                    # Whatever becomes of it now is nobody's business.
                    answers.unregister(process.stdout)
                    return
                asked[process] = following
                in_order = following.chapter is not None
                process.ask(following.query.as_string(conn), in_order=in_order)

            for process in self._processes[: len(ranges)]:
                answers.register(process.stdout, selectors.EVENT_READ, process)
                process.begin(session)
                ask_next(process)
            while asked:
                ready = answers.select(LOOK_S)
                if not ready:
                    yield None, Answer(0)
                for key, _ in ready:
                    process = key.data
                    done, answer = asked.pop(process), process.answer()
                    ask_next(process)
                    yield done, answer


def _told(found: _Answers, on_hashed: OnHashed) -> Iterator[tuple[_Range, Answer]]:
    """Yield what is answered, and tell of all so far, now and then."""
    done_bytes = rows = 0
    for each, answer in found:
        if each is not None:
            done_bytes += each.size_bytes
            rows += answer.rows
            yield each, answer
        on_hashed(done_bytes, rows)


def digest_loaded(
    conn: Connection, schema: str, hashing: Hashing, on_hashed: OnHashed
) -> InstanceDigest:
    """Compute the digest of a schema as ``Hashers`` does, with processes of its own."""
    with Hashers(hashing) as hashers:
        return hashers.digest(conn, schema, on_hashed)


def table_bytes(conn: Connection, schema: str) -> int:
    """Return how many bytes of tables ``digest_loaded`` reads."""
    return sum(each.size_bytes for t in list_tables(conn, schema) for each in _ranges(conn, t))


def _ranges(conn: Connection, table: TableInfo) -> Iterator[_Range]:
    """Yield ranges that make up ``table``; the last one has no end."""
    row = conn.execute(
        "SELECT pg_relation_size(%s::regclass)", (table.identifier.as_string(conn),)
    ).fetchone()
    assert row is not None
    pages = -(-row[0] // PAGE_BYTES)
    for first in range(0, max(pages, 1), RANGE_PAGES):
        end = min(first + RANGE_PAGES, pages)
        where = sql.SQL("WHERE ctid >= {}::tid").format(f"({first},0)")
        if end < pages:
            where += sql.SQL(" AND ctid < {}::tid").format(f"({end},0)")
        yield _Range(table.name, digest_query(table, where), (end - first) * PAGE_BYTES)


def _hash_alone(conn: Connection, ranges: Sequence[_Range]) -> _Answers:
    for each in ranges:
        digest = TableDigest()
        digest.add_all(copy_rows(conn, each.query))
        yield each, Answer(digest.rows, digest.row_sum)


def _session(conn: Connection, hashing: Hashing) -> dict[str, Any]:
    """Return what a process is told of the session that it opens."""
    # Rows in the order in which they lie: no worker, and no scan that joins another one's.
    first = ["SET max_parallel_workers_per_gather = 0", "SET synchronize_seqscans = off"]
    if (role := owner_of(conn, INSTANCE)) is not None:
        first.append(sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string(conn))
    if hashing.rehearsing:
        first.append(f"SELECT pg_advisory_lock_shared({LOCK_SPACE}, {Lock.REHEARSING})")
    return {hasher.DSN: hashing.dsn, hasher.FIRST: first}
