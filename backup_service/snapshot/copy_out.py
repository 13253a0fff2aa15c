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

from backup_service.snapshot.plan import KEYRING, ReadRange, wrapped_index
from backup_service.snapshot.session import Snapshot
from shared.archive.copybinary import HEADER, TRAILER, encode_tuple, split_fields
from shared.copyout import copy_rows
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

        def emit(stream: bytearray, digest: TableDigest) -> None:
            stream += TRAILER
            part = CompressedPart(name, compressor.compress(stream), digest, len(stream))
            # The writer may let it wait: what it was made of need not wait with it.
            stream.clear()
            self._put(index, part)

        if name == KEYRING:
            _copy_keyring(conn, part_range, self._root, emit)
        else:
            _copy_range(conn, part_range, self._part_bytes, emit)


# Takes a stream without its trailer, and leaves it empty.
Emit = Callable[[bytearray, TableDigest], None]


def _copy_range(conn: Connection, part_range: ReadRange, part_bytes: int, emit: Emit) -> None:
    # The loop runs once a row: hence locals, as in TableDigest.add_all.
    fresh, from_bytes, row_sum, rows = hashlib.sha512().copy, int.from_bytes, 0, 0
    stream, full = bytearray(HEADER), len(HEADER) + part_bytes
    for row in _rows(conn, part_range):
        stream += row
        state = fresh()
        state.update(row)
        row_sum += from_bytes(state.digest(), "big")
        rows += 1
        if len(stream) >= full:
            emit(stream, TableDigest.of(row_sum, rows))
            stream += HEADER
            row_sum, rows = 0, 0
    if rows or part_range.first_page == 0:
        # An empty table still has its part: a complete COPY without tuples.
        emit(stream, TableDigest.of(row_sum, rows))


def _copy_keyring(conn: Connection, part_range: ReadRange, root: RootKey, emit: Emit) -> None:
    index = wrapped_index(part_range.table)
    stream, digest = bytearray(HEADER), TableDigest()
    for row in _rows(conn, part_range):
        fields = split_fields(bytes(row))
        wrapped, check_value = fields[index] or b"", fields[index + 1] or b""
        fields[index] = root.unwrap(wrapped, check_value)
        stream += encode_tuple(fields)
        digest.add(encode_tuple(fields[:index] + fields[index + 1 :]))
    emit(stream, digest)


def _rows(conn: Connection, part_range: ReadRange) -> Iterator[memoryview]:
    try:
        yield from copy_rows(conn, part_range.query())
    except psycopg.Error as error:
        if error.sqlstate is None:
            # Not the server's answer: the connection is lost.
            raise
        reason = (error.diag.message_primary or type(error).__name__)[:200]
        raise BackupFailedError(f"reading {part_range.table.name} failed: {reason}") from error
