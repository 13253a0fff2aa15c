"""The barrier: wait until the store has everything that the log had acknowledged.

The target is the high watermark, the read_uncommitted end: the read_committed end misses
acknowledged writes that stand behind an open transaction. So an open transaction holds the
barrier up until it ends (Kafka ends a forgotten one by its time-out).
"""

from __future__ import annotations

import threading
import time
from typing import Final

from shared.database import Pool, postgres_faults
from shared.errors import BarrierTimeout, Interrupted, RestoreInProgress
from shared.instance.position import LogPosition, read_position
from shared.instance.whichlog import check_bounds, check_identity
from shared.kafka import Kafka
from shared.messages.topics import INSTANCE_EVENTS

_POLL_S: Final = 0.02


def wait_for_barrier(
    kafka: Kafka, pool: Pool, timeout_s: float, stop: threading.Event
) -> LogPosition:
    """Wait until the store's position has reached the present end of the log; return its row.

    Raises RestoreInProgress while a fence is open (the position does not move behind one), LogLost
    when the log is not the store's (there is no point on it to wait for), BarrierTimeout that names what was waited for, Interrupted when ``stop`` is set,
    KafkaUnavailable and PostgresUnavailable.
    """
    topic = kafka.topic(INSTANCE_EVENTS)
    before = _read(pool)
    with kafka.admin() as admin:
        log = admin.log_identity(topic)
        target = admin.high_watermark(topic)
    if not before.fenced:
        check_bounds(before, 0, target)
    deadline = time.monotonic() + timeout_s
    while True:
        row = _read(pool)
        if row.fenced:
            raise RestoreInProgress(
                f"restore {row.fence_restore_id} holds the instance since offset {row.fence_offset}"
            )
        check_identity(row, log)
        if row.position >= target:
            return row
        if time.monotonic() >= deadline:
            raise BarrierTimeout(_what_holds_it(kafka, topic, row.position, target, timeout_s))
        if stop.wait(_POLL_S):
            raise Interrupted("the service stopped while it waited for the store")


def _read(pool: Pool) -> LogPosition:
    with postgres_faults("reading the position"), pool.connection() as conn:
        return read_position(conn)


def _what_holds_it(kafka: Kafka, topic: str, position: int, target: int, timeout_s: float) -> str:
    waited = f"after {timeout_s:.1f} s the store is at offset {position} of {target}"
    with kafka.admin() as admin:
        stable = admin.last_stable_offset(topic)
    if stable <= position:
        return f"{waited}: a transaction on the log has been open since offset {stable}"
    return f"{waited}: the projector has not folded offsets {position} to {target - 1} yet"
