"""Rows of committed tables, hashed in several processes at once (``restore_service.hasher``)."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

from psycopg import sql

from restore_service import hasher
from restore_service.rights import owner_of
from restore_service.settings import RestoreServiceSettings
from restore_service.staging import INSTANCE, owner_connection
from shared.copyout import copy_rows
from shared.database import LOCK_SPACE, Connection, Lock
from shared.errors import PostgresUnavailable, RestoreFailedError
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
    """Pages of a table: the COPY of their rows, and what they take."""

    table: str
    query: sql.Composed
    size_bytes: int


_Hashed = Iterator[tuple[_Range | None, TableDigest]]


class Hashers:
    """The processes that hash the rows of one loaded schema; they end with the block.

    To start takes them a while: as soon as it is known that they are wanted they are started.
    """

    def __init__(self, hashing: Hashing) -> None:
        self._hashing = hashing
        self._stack = ExitStack()
        self._processes: list[_Hasher] = []
        self._expected_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def connect(self) -> Connection:
        """Open one more session as theirs are."""
        return self._hashing.connect()

    def expect(self, size_bytes: int) -> None:
        """Be told of so much more to hash; start the processes if that is more than one does."""
        self._expected_bytes += size_bytes
        if self._expected_bytes >= ALONE_BYTES and not self._processes:
            for _ in range(self._hashing.processes):
                self._processes.append(self._stack.enter_context(_Hasher()))

    def digest(self, conn: Connection, schema: str, on_hashed: OnHashed) -> InstanceDigest:
        """Compute the digest of a committed schema that nobody writes, on several cores.

        Raises PostgresUnavailable, RestoreFailedError, and what ``on_hashed`` does.
        """
        tables = list_tables(conn, schema)
        ranges = [each for table in tables for each in _ranges(conn, table)]
        self.expect(max(0, sum(each.size_bytes for each in ranges) - self._expected_bytes))
        found = self._shared(conn, ranges) if self._processes else _hash_alone(conn, ranges)
        digests = {table.name: TableDigest() for table in tables}
        done_bytes = rows = 0
        for each, digest in found:
            if each is not None:
                digests[each.table].merge(digest)
                done_bytes += each.size_bytes
                rows += digest.rows
            on_hashed(done_bytes, rows)
        return InstanceDigest(
            schema_version(conn, schema),
            {name: TableState(each.rows, each.hexdigest(name)) for name, each in digests.items()},
        )

    def _shared(self, conn: Connection, ranges: Sequence[_Range]) -> _Hashed:
        """Yield ranges with their digests, as they become known; None where one has to wait."""
        session, left = _session(conn, self._hashing), iter(ranges)
        asked: dict[_Hasher, _Range] = {}
        with selectors.DefaultSelector() as answers:
            for process, first in zip(self._processes, left, strict=False):
                answers.register(process.stdout, selectors.EVENT_READ, process)
                process.begin(session)
                process.ask(first.query.as_string(conn))
                asked[process] = first
            while asked:
                ready = answers.select(LOOK_S)
                if not ready:
                    yield None, TableDigest()
                for key, _ in ready:
                    process = key.data
                    done, digest = asked.pop(process), process.answer()
                    if (following := next(left, None)) is not None:
                        asked[process] = following
                        process.ask(following.query.as_string(conn))
                    yield done, digest


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


def _hash_alone(conn: Connection, ranges: Sequence[_Range]) -> _Hashed:
    for each in ranges:
        digest = TableDigest()
        digest.add_all(copy_rows(conn, each.query))
        yield each, digest


def _session(conn: Connection, hashing: Hashing) -> dict[str, Any]:
    """Return what a process is told of the session that it opens."""
    first = []
    if (role := owner_of(conn, INSTANCE)) is not None:
        first.append(sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string(conn))
    if hashing.rehearsing:
        first.append(f"SELECT pg_advisory_lock_shared({LOCK_SPACE}, {Lock.REHEARSING})")
    return {hasher.DSN: hashing.dsn, hasher.FIRST: first}


class _Hasher:
    """One process that hashes rows: a question at a time, and its answer."""

    def __init__(self) -> None:
        # Our own modules are found as this process found them, and nowhere else.
        safe_path = ["-P"] if sys.flags.safe_path else []
        self._process = subprocess.Popen(
            [sys.executable, *safe_path, "-m", hasher.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # What is told to the service's group to stop lets the restore in hand end.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self.stdout = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, session: dict[str, Any]) -> None:
        """Have it open its session; it answers to what it is asked then."""
        self._say(session)

    def ask(self, query: str) -> None:
        """Ask for the digest of the rows that a COPY gives."""
        self._say({hasher.QUERY: query})

    def answer(self) -> TableDigest:
        """Return what was asked for. Raises PostgresUnavailable, RestoreFailedError."""
        line = self.stdout.readline()
        if not line:
            raise RestoreFailedError("a process that hashes rows ended")
        answer = json.loads(line)
        if fault := answer.get(hasher.FAULT):
            what = f"PostgreSQL failed while rows were hashed ({fault})"
            raise PostgresUnavailable(what) if answer[hasher.LOST] else RestoreFailedError(what)
        return TableDigest.of(int(answer[hasher.SUM], 16), answer[hasher.ROWS])

    def _say(self, document: dict[str, Any]) -> None:
        try:
            self._stdin.write(json.dumps(document) + "\n")
            self._stdin.flush()
        except BrokenPipeError:
            # Why it ended is its answer.
            return
