"""Read a binary COPY row by row, at libpq's own speed, without holding up other threads."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq, sql

HEADER_BYTES = 19
# The trailer; a tuple is longer.
TRAILER_BYTES = 2


def copy_rows(
    conn: psycopg.Connection[Any], query: sql.Composed, *, alone: bool = False
) -> Iterator[memoryview]:
    """Yield the tuples of a binary COPY TO STDOUT, in the transaction that ``conn`` is in.

    libpq hands over one row a message; header and trailer are left out. A view keeps its row, and
    nothing else, for as long as it is held. Where this thread is ``alone`` in its process libpq
    may wait by itself, which is faster. Raises psycopg.Error.
    """
    pgconn = conn.pgconn
    result = pgconn.exec_(query.as_bytes(conn))
    if result.status != pq.ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(result, conn.info.encoding)
    get, first = pgconn.get_copy_data, True
    # The waiting kind keeps the interpreter's lock, and with it every other thread.
    at_once = 0 if alone else 1
    while True:
        size, data = get(at_once)
        if size == 0:
            _wait(pgconn)
            continue
        if size < 0:
            break
        if first:
            data, first = data[HEADER_BYTES:], False
        if len(data) > TRAILER_BYTES:
            yield data
    _finish(conn)


def _wait(pgconn: pq.abc.PGconn) -> None:
    waiting = select.poll()
    waiting.register(pgconn.socket, select.POLLIN)
    waiting.poll()
    pgconn.consume_input()


def _finish(conn: psycopg.Connection[Any]) -> None:
    """Take the results behind the last row. Raises psycopg.Error when the COPY failed."""
    failed = None
    while (result := conn.pgconn.get_result()) is not None:
        if result.status != pq.ExecStatus.COMMAND_OK:
            failed = failed or result
    if failed is not None:
        raise psycopg.errors.error_from_result(failed, conn.info.encoding)
