"""After a start, and now and then: what dead processes left is ended, and nothing of it remains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from restore_service import events as ev
from restore_service.context import SERVICE, RestoreContext
from restore_service.fence import lower_fence, present_position
from restore_service.handlers.count_voided_late import count_voided_late
from restore_service.handlers.expire_waiting import expire_waiting
from restore_service.handlers.finish import (
    abort_event,
    complete_restore,
    give_up,
)
from restore_service.staging import (
    become_owner,
    before_name,
    drop_if_possible,
    leftover_schemas,
    owner_connection,
    staging_name,
)
from restore_service.unseen import read_unseen
from restore_service.uploads import drop_old_uploads
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import Interrupted, LogLost
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

log = structlog.get_logger(__name__)

RunnerLives = Callable[[str], bool]

ABANDONED = CrashPoint("restore.recover.abandoned")
LOWERING = CrashPoint("restore.recover.fence_uncommitted")
LOWERED = CrashPoint("restore.recover.fence_lowered")
DROPPING = CrashPoint("restore.recover.previous_uncommitted")


def recover_restores(context: RestoreContext, runner_lives: RunnerLives) -> None:
    """End restores that nobody runs or approves, lower left fences, drop what nobody needs.

    Only the holder of the worker's lock may call this. Raises PostgresUnavailable.
    """
    expire_waiting(context)
    _end_abandoned(context, runner_lives)
    _lower_left_fence(context)
    _drop_remains(context)
    count_voided_late(context)


def _end_abandoned(context: RestoreContext, runner_lives: RunnerLives) -> None:
    with context.transaction("looking for abandoned restores") as conn:
        restores = [context.history.load(conn, i) for i in context.history.open_ids(conn)]
        rehearsed = [context.rehearsals.load(conn, i) for i in context.rehearsals.open_ids(conn)]
        waiting = [context.history.load(conn, i) for i in context.history.waiting_ids(conn)]
    uploads = [restore.facts["upload_id"] for restore in (*restores, *waiting)]
    uploads += [rehearsal.facts["upload_id"] for rehearsal in rehearsed]
    needed = {str(upload_id) for upload_id in uploads}
    drop_old_uploads(context.uploads, needed)
    for restore in restores:
        if restore.restore_id in context.accepted:
            continue
        # With the worker's lock held, nothing of our own is running: what we lost, we end.
        if restore.runner != context.runner and runner_lives(restore.runner):
            continue
        log.warning("restore.recovering", restore_id=restore.restore_id, cut_over=restore.cut_over)
        ABANDONED.reach()
        meta = EventMeta(SERVICE, restore.facts["correlation_id"], restore.restore_id)
        if restore.cut_over:
            complete_restore(context, restore.restore_id, meta, None)
        else:
            fault = Interrupted("the service ended during the restore; its key was kept nowhere")
            give_up(context, restore.restore_id, fault, meta)


def _lower_left_fence(context: RestoreContext) -> None:
    """Lower the fence of a restore that was aborted, and of one that nobody knows the end of.

    The latter was lost with its database before it ended, and is announced as aborted. The fence
    of a restore that was cut over is the projector's, and so is one that the log itself closes:
    what stands before Restored on the log must stay void.
    """
    with context.transaction("looking for a fence that nobody owns") as conn:
        try:
            position = present_position(conn)
        except LogLost:
            return
        owner = position.fence_restore_id
        if position.fence_no is None or owner is None:
            return
        known = context.history.exists(conn, owner)
        if known:
            restore = context.history.load(conn, owner)
            if restore.cut_over or not restore.ended:
                return
    unseen = read_unseen(context, position)
    closed = unseen.open_fence is None or unseen.open_fence.restore_id != owner
    if closed and not known:
        return
    with context.transaction("lowering a fence that was left") as conn:
        stream = f"fence-{owner}"
        if not known and not context.store.version(conn, stream):
            event = abort_event(str(owner), position.fence_no, "unknown_restore")
            context.store.append(conn, stream, 0, [event], EventMeta(SERVICE, str(owner)))
        lowered = lower_fence(conn, owner, unseen.highest_fence_no)
        LOWERING.reach()
    LOWERED.reach()
    if lowered:
        log.warning("fence.lowered", restore_id=str(owner), fence_no=position.fence_no)


def _drop_remains(context: RestoreContext) -> None:
    with (
        postgres_faults("dropping what is not needed"),
        owner_connection(context.settings.postgres.dsn) as conn,
    ):
        staging, kept = leftover_schemas(conn)
        with context.transaction("looking for open restores") as reading:
            needed = {staging_name(i) for i in context.history.open_ids(reading)}
        for schema in set(staging) - needed:
            if drop_if_possible(conn, schema):
                log.warning("staging.dropped", schema=schema)
    for restore_id in _undo_is_over(context, kept):
        _drop_previous(context, restore_id)


def _undo_is_over(context: RestoreContext, kept: Sequence[str]) -> list[str]:
    """Return the restores whose old state, one of the schemas ``kept``, no undo can want any more.

    Only the last restore can be undone, and within its window. Of one that the history does not
    know nothing says how old it is: a person decides.
    """
    ids = [UUID(schema.rsplit("_", 1)[1]) for schema in kept]
    with context.transaction("looking for the undo window") as conn:
        known, last = context.history.known(conn, ids), context.history.last_restored(conn)
    if last is None:
        return []
    ended_at = datetime.fromisoformat(last.facts["ended_at"])
    window = timedelta(seconds=context.settings.restore.undo_window_s)
    open_until = ended_at + window
    return [i for i in known if i != last.restore_id or datetime.now(UTC) > open_until]


def _drop_previous(context: RestoreContext, restore_id: str) -> None:
    """Drop what a restore replaced and say so, both or neither."""
    with context.transaction("dropping a replaced state") as conn:
        become_owner(conn)
        gone = drop_if_possible(conn, before_name(restore_id))
        conn.execute("RESET ROLE")
        if not gone:
            return
        restore = context.history.load(conn, restore_id)
        event = NewEvent(ev.PREVIOUS_DROPPED, {"restore_id": restore_id}, RESTORE_EVENTS)
        context.history.append(
            conn, restore_id, restore.version, [event], EventMeta(SERVICE, restore_id)
        )
        DROPPING.reach()
    log.info("restore.previous_dropped", restore_id=restore_id)
