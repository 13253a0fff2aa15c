"""The fence: from its offset F on the log, nothing is applied until the restore's end is known."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from uuid import UUID

from restore_service.context import RestoreContext
from restore_service.staging import INSTANCE
from restore_service.unseen import Unseen
from shared.database import Connection
from shared.errors import FenceTimeout, Interrupted, LogLost
from shared.instance.position import LogPosition, read_position, write_position
from shared.kafka import LogIdentity

POLL_S = 0.02


@dataclass(frozen=True)
class Fence:
    """A fence that stands: its number, its offset F, the event that raised it, and the new epoch."""

    fence_no: int
    offset: int
    event_id: UUID
    epoch: int


def present_position(conn: Connection) -> LogPosition:
    """Return the store's row; an untouched one where the store is empty."""
    exists = conn.execute("SELECT to_regclass('instance.log_position')").fetchone()
    if exists is None or exists[0] is None:
        raise LogLost(
            "the store has no schema yet",
            hint="Start the projector once: it makes the schema that a restore replaces.",
        )
    return read_position(conn, INSTANCE)


def wait_for_delivery(context: RestoreContext, event_id: UUID, wait_s: float) -> int:
    """Return the offset at which the relay published an event. Raises FenceTimeout."""
    deadline = time.monotonic() + wait_s
    while True:
        with context.transaction("waiting for the log") as conn:
            delivery = context.store.delivery(conn, event_id)
        if delivery is not None:
            return delivery.offset
        if time.monotonic() >= deadline:
            raise FenceTimeout(f"the log did not take the fence within {wait_s:.0f} s")
        time.sleep(POLL_S)


def wait_for_projector(
    context: RestoreContext, fence: Fence, restore_id: str, unseen: Unseen, wait_s: float
) -> bool:
    """Wait until the projector has recorded the fence; after that long take the row ourselves.

    Returns whether the projector did it. Its position stays where it is: should the restore be
    aborted, a projector that was behind or down goes on from there. So the row is left alone
    while the projector has other restores before it: it would not know them after an abort, and
    apply what they made void. The cut-over replaces the row either way.

    Raises Interrupted when another process ended the restore meanwhile: its fence is over.
    """
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        with context.transaction("waiting for the projector") as conn:
            if _stands(read_position(conn, INSTANCE), fence):
                return True
        time.sleep(POLL_S)
    with context.transaction("raising the fence") as conn:
        # Behind the append lock nobody ends this restore before the row is written.
        context.store.lock_appends(conn)
        if context.history.load(conn, restore_id).ended:
            raise Interrupted("another process took this restore for dead, and ended it")
        found = read_position(conn, INSTANCE, lock=True)
        if _stands(found, fence):
            return True
        if found.highest_fence_no >= fence.fence_no:
            raise Interrupted(f"the fence {fence.fence_no} of this restore is over")
        if found.fenced or unseen.restores:
            return False
        write_position(
            conn,
            replace(
                found,
                fence_no=fence.fence_no,
                fence_restore_id=UUID(restore_id),
                fence_offset=fence.offset,
                highest_fence_no=fence.fence_no,
            ),
            INSTANCE,
        )
    return False


def lower_fence(conn: Connection, restore_id: UUID, highest_fence_no: int) -> bool:
    """Take the fence of an aborted restore off the row; tell whether it was there.

    ``highest_fence_no`` is the highest number on the log: those up to it are spent.

    A projector does the same when it reads Aborted. One that is down, or whose log is lost, never
    does. The position stays where it was: whoever goes on from there passes over the Started, and
    then over the Aborted.
    """
    found = read_position(conn, INSTANCE, lock=True)
    if found.fence_restore_id != restore_id:
        return False
    lowered = replace(
        found,
        fence_no=None,
        fence_restore_id=None,
        fence_offset=None,
        highest_fence_no=max(found.highest_fence_no, highest_fence_no),
    )
    write_position(conn, lowered, INSTANCE)
    return True


def wait_until_reopened(context: RestoreContext, restored_id: UUID, wait_s: float) -> bool:
    """Wait until the closing event has landed and the projector is past it; tell whether it is."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not context.stop.is_set():
        with context.transaction("waiting for the fence to close") as conn:
            delivery = context.store.delivery(conn, restored_id)
            if delivery is not None and read_position(conn, INSTANCE).position > delivery.offset:
                return True
        time.sleep(POLL_S)
    return False


def _stands(position: LogPosition, fence: Fence) -> bool:
    return position.fence_no == fence.fence_no and position.fence_offset == fence.offset


def staged_position(fence: Fence, restore_id: str, log: LogIdentity) -> LogPosition:
    """Return the row of the staging schema: behind the fence, an epoch higher, fence still open."""
    return LogPosition(
        cluster_id=log.cluster_id,
        topic_id=log.topic_id,
        position=fence.offset + 1,
        last_offset=fence.offset,
        last_event_id=fence.event_id,
        epoch=fence.epoch,
        fence_no=fence.fence_no,
        fence_restore_id=UUID(restore_id),
        fence_offset=fence.offset,
        highest_fence_no=fence.fence_no,
        skipped={},
    )
