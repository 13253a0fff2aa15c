"""Read ranges of a snapshot into compressed parts: a few threads, a bounded queue for each range."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import zstandard
from psycopg import pq

from backup_service.snapshot.plan import KEYRING, ReadRange, wrapped_index
from backup_service.snapshot.session import Snapshot
from shared.archive.copybinary import HEADER, TRAILER, encode_tuple, split_fields
from shared.database import Connection
from shared.errors import BackupFailedError, Cancelled
from shared.instance.digest import TableDigest
from shared.instance.keyring import RootKey

# Parts of one range that may wait for the writer: the bound on memory is readers x this x part.
PARTS_WAITING = 2
PATIENCE_S = 0.2


@dataclass(frozen=True)
class CompressedPart:
    """A part of a table, ready for the archive."""

    table: str
    data: bytes
    digest: TableDigest
    raw_bytes: int


_Item = CompressedPart | BaseException | None


class SnapshotReaders:
    """Read ``ranges`` with ``readers`` threads; parts come out in the order of the ranges."""

    def __init__(
        self,
        snapshot: Snapshot,
        ranges: Sequence[ReadRange],
        root: RootKey,
        *,
        readers: int,
        part_bytes: int,
        zstd_level: int,
    ) -> None:
        self._snapshot = snapshot
        self._ranges = ranges
        self._root = root
        self._part_bytes = part_bytes
        self._zstd_level = zstd_level
        self._queues: list[queue.Queue[_Item]] = [queue.Queue(PARTS_WAITING) for _ in ranges]
        self._stop = threading.Event()
        self._next = iter(range(len(ranges)))
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._read, name=f"snapshot-reader-{number}", daemon=True)
            for number in range(readers)
        ]

    @contextmanager
    def running(self) -> Iterator[Iterator[CompressedPart]]:
        """Start the readers and yield their parts; end them with the block, whatever happened."""
        for thread in self._threads:
            thread.start()
        try:
            yield self._parts()
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _parts(self) -> Iterator[CompressedPart]:
        for waiting in self._queues:
            while (item := waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item

    def _read(self) -> None:
        index: int | None = None
        try:
            with self._snapshot.reader() as conn:
                while (index := self._take()) is not None:
                    self._read_range(conn, index)
                    self._put(index, None)
                conn.rollback()
        except Cancelled:
            return
        except BaseException as error:
            # The writer waits at the queue of this range, or of the next that nobody takes.
            index = self._take() if index is None else index
            if index is not None:
                self._put_quietly(index, error)

    def _take(self) -> int | None:
        with self._lock:
            return next(self._next, None)

    def _put(self, index: int, item: _Item) -> None:
        while not self._stop.is_set():
            try:
                self._queues[index].put(item, timeout=PATIENCE_S)
                return
            except queue.Full:
                continue
        raise Cancelled("the backup was given up")

    def _put_quietly(self, index: int, error: BaseException) -> None:
        try:
            self._put(index, error)
        except Cancelled:
            return

    def _read_range(self, conn: Connection, index: int) -> None:
        part_range = self._ranges[index]
        compressor = zstandard.ZstdCompressor(level=self._zstd_level, write_checksum=True)
        name = part_range.table.name

        def emit(tuples: list[bytes], digest: TableDigest) -> None:
            raw = b"".join([HEADER, *tuples, TRAILER])
            part = CompressedPart(name, compressor.compress(raw), digest, len(raw))
            self._put(index, part)

        if name == KEYRING:
            _copy_keyring(conn, part_range, self._root, emit)
        else:
            _copy_range(conn, part_range, self._part_bytes, emit)


Emit = Callable[[list[bytes], TableDigest], None]


def _copy_range(conn: Connection, part_range: ReadRange, part_bytes: int, emit: Emit) -> None:
    # The loop runs once a row: hence locals, and libpq's own interface (one message, one row).
    tuples: list[bytes] = []
    digest, size = TableDigest(), 0
    sha512, from_bytes, total, rows = hashlib.sha512, int.from_bytes, 0, 0
    for row in _rows(conn, part_range):
        tuples.append(row)
        total += from_bytes(sha512(row).digest(), "big")
        rows += 1
        size += len(row)
        if size >= part_bytes:
            emit(tuples, TableDigest.of(total, rows))
            tuples, size, total, rows = [], 0, 0, 0
    if tuples or part_range.first_page == 0:
        # An empty table still has its part: a complete COPY without tuples.
        emit(tuples, TableDigest.of(total, rows) if rows else digest)


def _copy_keyring(conn: Connection, part_range: ReadRange, root: RootKey, emit: Emit) -> None:
    index = wrapped_index(part_range.table)
    tuples: list[bytes] = []
    digest = TableDigest()
    for row in _rows(conn, part_range):
        fields = split_fields(row)
        wrapped, check_value = fields[index] or b"", fields[index + 1] or b""
        fields[index] = root.unwrap(wrapped, check_value)
        tuples.append(encode_tuple(fields))
        digest.add(encode_tuple(fields[:index] + fields[index + 1 :]))
    emit(tuples, digest)


def _rows(conn: Connection, part_range: ReadRange) -> Iterator[bytes]:
    pgconn = conn.pgconn
    result = pgconn.exec_(part_range.query().as_bytes(conn))
    if result.status != pq.ExecStatus.COPY_OUT:
        raise BackupFailedError(f"reading {part_range.table.name} failed: {_message(result)}")
    get, first = pgconn.get_copy_data, True
    while True:
        size, data = get(0)
        if size < 0:
            break
        row = bytes(data)
        if first:
            row, first = row[len(HEADER) :], False
        if row and row != TRAILER:
            yield row
    ended = pgconn.get_result()
    if size == -2 or ended is None or ended.status != pq.ExecStatus.COMMAND_OK:
        raise BackupFailedError(f"reading {part_range.table.name} failed: {_message(ended)}")
    while pgconn.get_result() is not None:
        continue


def _message(result: psycopg.pq.abc.PGresult | None) -> str:
    if result is None:
        return "no answer"
    return result.error_message.decode("utf-8", "replace").strip().splitlines()[0][:200]
