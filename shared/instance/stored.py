"""Wait until the store has an event: whoever wrote it may then read its own writing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Pool, postgres_faults
from shared.errors import EpochChanged, EventRejected, FenceOpen, LogLost, StoreBehind
from shared.instance.position import read_position

_POLL_S: Final = 0.02


@dataclass(frozen=True)
class Written:
    """Where an event stands on the log, and in which epoch it was written.

    ``topic_id`` is the log that the store followed then; ``event_id`` tells the event from one of
    another log at the same offset.
    """

    offset: int
    epoch: int
    topic_id: str | None = None
    event_id: UUID | None = None


def wait_until_stored(pool: Pool, written: Written, timeout_s: float) -> None:
    """Wait until the store has folded the event at ``written``.

    Raises EpochChanged or FenceOpen when a restore overtook it, LogLost when the store went
    over to another log, EventRejected when it contradicted the state, StoreBehind after
    ``timeout_s``, PostgresUnavailable.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        with postgres_faults("reading the store"), pool.connection() as conn:
            row = read_position(conn)
        if row.epoch != written.epoch:
            raise EpochChanged(f"a restore overtook the event at offset {written.offset}")
        if written.topic_id is not None and row.topic_id != written.topic_id:
            raise LogLost(
                f"the store went over to another log since the event at {written.offset}",
                hint="Read the present state: the event may count, or be lost. Decide again.",
            )
        if row.fence_offset is not None and row.fence_offset < written.offset:
            raise FenceOpen(f"the event at offset {written.offset} stands behind a fence")
        if row.position > written.offset:
            _check_rejection(pool, written)
            return
        if time.monotonic() > deadline:
            raise StoreBehind(
                f"the store is at offset {row.position}, the event at {written.offset}"
            )
        time.sleep(_POLL_S)


def _check_rejection(pool: Pool, written: Written) -> None:
    with postgres_faults("reading the store"), pool.connection() as conn:
        row = conn.execute(
            "SELECT code, detail FROM instance.rejections WHERE event_offset = %s "
            "AND (%s::uuid IS NULL OR event_id = %s)",
            (written.offset, written.event_id, written.event_id),
        ).fetchone()
    if row is not None:
        raise EventRejected(
            f"the event at offset {written.offset} was rejected: {row[0]}, {row[1]}"
        )
