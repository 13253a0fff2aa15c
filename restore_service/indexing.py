"""The indexes of a loaded schema, built while its rows are compared: both read, neither writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from restore_service.staging import analyze
from shared.database import Connection
from shared.instance.migrate import create_indexes

LOOK_S: Final = 0.2

# Waits for the indexes; what it is given is called meanwhile, and may raise to give up.
WaitForIndexes = Callable[[Callable[[], None]], None]


@contextmanager
def indexes_built(
    connect: Callable[[], Connection], schema: str, version: int
) -> Iterator[WaitForIndexes]:
    """Build the indexes of a committed schema in a session of its own, beside the block.

    A block that raises has them given up. Raises psycopg.Error where they cannot be built.
    """
    with connect() as conn, ThreadPoolExecutor(1, "indexes") as builder:
        building = builder.submit(_build, conn, schema, version)
        try:
            yield lambda look: _wait(building, look)
        except BaseException:
            _cancel(conn, building)
            raise
        building.result()


def _cancel(conn: Connection, building: Future[None]) -> None:
    # What is cancelled between two statements goes on with the next: so as often as it takes. A
    # server that takes no cancellation is lost, and with it what it was building.
    while not building.done():
        with suppress(psycopg.Error):
            conn.cancel_safe()
        wait([building], LOOK_S)


def _build(conn: Connection, schema: str, version: int) -> None:
    with conn.transaction():
        create_indexes(conn, schema, version)
    analyze(conn, schema)


def _wait(building: Future[None], look: Callable[[], None]) -> None:
    while not wait([building], LOOK_S).done:
        look()
    building.result()
