"""What a restore and an undo have in common: the fence, the cut-over, and the way out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import psycopg
import structlog

from restore_service import events as ev
from restore_service.cutover import cut_over, drain_older
from restore_service.dependents import check_dependents
from restore_service.fence import (
    Fence,
    present_position,
    wait_for_delivery,
    wait_for_projector,
    wait_until_reopened,
)
from restore_service.handlers.finish import complete_restore
from restore_service.rights import renew_rights
from restore_service.run import Run, Step
from restore_service.staging import INSTANCE, before_name
from restore_service.unseen import Unseen, read_unseen
from shared.bodies.commands import CancelRunning
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import Cancelled, ConcurrencyConflict, RestoreInProgress
from shared.eventstore import NewEvent
from shared.guard import exclusive_guard
from shared.instance.events import LogSource, Restored, RestoreStarted
from shared.messages.between import CANCEL_RUNNING
from shared.messages.topics import BACKUP_COMMANDS, INSTANCE_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

FENCE_APPENDED = CrashPoint("restore.fence.appended")
RIGHTS_RENEWED = CrashPoint("restore.cut_over.rights")
DECISION_OPEN = CrashPoint("restore.cut_over.uncommitted")
DECIDED = CrashPoint("restore.cut_over.committed")


def check_no_other(run: Run, conn: Connection) -> None:
    """Raise RestoreInProgress behind the fence of a restore that has not ended.

    One that ended, or that only the log knows, is no reason to refuse: a store that is rebuilt
    from the log, and cannot get past such a restore, has no other way out than this one.
    """
    owner = present_position(conn).fence_restore_id
    history = run.context.history
    if owner is not None and history.exists(conn, owner) and not history.load(conn, owner).ended:
        raise RestoreInProgress(f"the fence of restore {owner} is open")


def raise_fence(
    run: Run,
    backup_id: UUID,
    *,
    cancel_backup: bool = False,
    check_time: Callable[[], None] = lambda: None,
) -> Fence:
    """Append Started behind every running backup, and wait until it stands on the log.

    A running backup is waited for, or asked to be given up. ``check_time`` is called behind that
    wait, right before the fence, and may raise.

    Raises BackupInProgress, FenceTimeout, Cancelled, Interrupted, and what the parts raise.
    """
    context = run.context
    settings, dsn = context.settings.restore, context.settings.postgres.dsn
    run.step(Step.GUARD)

    def busy() -> None:
        if cancel_backup:
            _cancel_running_backup(run)

    with exclusive_guard(dsn, settings.guard_wait_s, run.look, busy):
        check_time()
        run.step(Step.FENCE)
        with context.transaction("reading the position") as conn:
            present = present_position(conn)
        # Whoever holds the worker's lock is the only one to raise a fence: this stays so.
        unseen = read_unseen(context, present)
        event_id, fence_no = _append_started(run, backup_id, unseen)
        FENCE_APPENDED.reach()
        run.step(Step.DELIVERY)
        offset = wait_for_delivery(context, event_id, settings.fence_wait_s)
        fence = Fence(fence_no, offset, event_id, unseen.epoch + 1)
        run.step(Step.HOLD)
        if not wait_for_projector(context, fence, run.id, unseen, settings.fence_wait_s):
            log.warning("fence.without_projector", restore_id=run.id, offset=offset)
    return fence


def _cancel_running_backup(run: Run) -> None:
    """Ask backup_service, as everybody does, by a signed command."""
    command_id = uuid5(UUID(run.id), "cancel the running backup")
    command = CancelRunning(command_id=command_id, restore_id=UUID(run.id))
    with run.context.transaction("cancelling the running backup") as conn:
        stream = f"cancel-{run.id}"
        if run.context.store.version(conn, stream) == 0:
            event = NewEvent(CANCEL_RUNNING, command.model_dump(mode="json"), BACKUP_COMMANDS)
            run.context.store.append(conn, stream, 0, [event], run.meta)


def _append_started(run: Run, backup_id: UUID, unseen: Unseen) -> tuple[UUID, int]:
    with run.context.transaction("appending the fence") as conn:
        fence_no = run.context.history.next_fence_no(conn, run.id, unseen.highest_fence_no)
        started = RestoreStarted(restore_id=UUID(run.id), fence_no=fence_no, backup_id=backup_id)
        event = NewEvent(RestoreStarted.TYPE, started.model_dump(mode="json"), INSTANCE_EVENTS)
        try:
            run.append(conn, [event])
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None
        return event.event_id, fence_no


def replace_instance(
    run: Run,
    fence: Fence,
    candidate: str,
    restored: Restored,
    facts: dict[str, Any],
    *,
    also: Callable[[Connection], None] = lambda _: None,
) -> UUID:
    """Put the schema ``candidate``, whose rows are committed, in the place of the instance.

    ``also`` is done in the transaction of the decision. Returns the id of the event that closes the
    fence. Raises CutoverBlocked, Cancelled, DependentObjects.
    """
    context, settings = run.context, run.context.settings.restore
    closing = NewEvent(Restored.TYPE, restored.model_dump(mode="json"), INSTANCE_EVENTS)
    run.step(Step.DRAIN)
    with (
        postgres_faults("cutting over"),
        psycopg.connect(context.settings.postgres.dsn, autocommit=True) as conn,
    ):
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None and isinstance(row[0], datetime)
        ended = drain_older(conn, row[0], settings.drain_wait_s, run.look)
        run.step(Step.CUT_OVER)
        outcome = facts | {
            "epoch": fence.epoch,
            "fence_offset": fence.offset,
            "sessions_ended": ended,
            "kept_as": before_name(run.id),
        }

        def decide(conn: Connection) -> None:
            # Nobody changes anything any more: what was changed since it was looked at counts.
            check_dependents(conn, INSTANCE)
            renew_rights(conn, INSTANCE, candidate)
            RIGHTS_RENEWED.reach()
            decided = NewEvent(
                ev.CUT_OVER, {"restore_id": run.id, "outcome": outcome}, RESTORE_EVENTS
            )
            run.append(conn, [decided, closing])
            also(conn)

        try:
            cut_over(
                conn,
                live=INSTANCE,
                staging=candidate,
                before=before_name(run.id),
                lock_timeout_ms=settings.lock_timeout_ms,
                wait_s=settings.cutover_wait_s,
                decide=decide,
                look=run.look,
                renamed=DECISION_OPEN.reach,
            )
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None
    DECIDED.reach()
    log.info("restore.cut_over", restore_id=run.id, epoch=fence.epoch, offset=fence.offset)
    return closing.event_id


def restored_event(
    run: Run,
    fence: Fence,
    backup_id: UUID,
    source: LogSource | None = None,
    undo_of: UUID | None = None,
) -> Restored:
    """Return the event that closes ``fence`` and says what the state equals."""
    return Restored(
        restore_id=UUID(run.id),
        fence_no=fence.fence_no,
        fence_offset=fence.offset,
        epoch=fence.epoch,
        backup_id=backup_id,
        source=source,
        undo_of=undo_of,
    )


def complete(run: Run, closing_id: UUID) -> None:
    """Wait until the instance takes writes again, so that "restored" means that; then say so.

    A projector or a Kafka that is away is not waited for: the state stands, and the fence closes
    when they are back.
    """
    context = run.context
    run.enter(Step.REOPEN)
    if not wait_until_reopened(context, closing_id, context.settings.restore.fence_wait_s):
        log.warning("restore.fence_still_open", restore_id=run.id)
    run.enter(Step.COMPLETE)
    duration_s = round(time.monotonic() - run.began, 3)
    complete_restore(context, run.id, run.meta, duration_s)
