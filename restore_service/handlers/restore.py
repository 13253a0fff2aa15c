"""Restore: check, fence, load, compare, cut over; or the instance stays as it was.

Every step before the cut-over ends, when it fails, in Aborted (a fence was raised) or Failed (it
was not), with nothing left. The cut-over's transaction is the decision; behind it there is only
Restored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog

from restore_service import events as ev
from restore_service.checks import (
    CheckedArchive,
    check_archive,
    check_store,
    check_target,
    open_source,
)
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.cutover import cut_over, drain_older
from restore_service.events import Restore
from restore_service.fence import (
    Fence,
    exclusive_guard,
    present_position,
    staged_position,
    wait_for_delivery,
    wait_for_projector,
    wait_until_reopened,
)
from restore_service.handlers.finish import complete_restore, give_up
from restore_service.staging import (
    INSTANCE,
    analyze,
    before_name,
    compare_with_manifest,
    finish_staging,
    load_staging,
    owner_connection,
    prepare_takeover,
    staging_name,
)
from restore_service.unseen import Unseen, read_unseen
from shared.archive.reader import open_archive
from shared.database import Connection, postgres_faults
from shared.errors import (
    ArchiveAltered,
    Cancelled,
    ConcurrencyConflict,
    Interrupted,
    RestoreFailedError,
    RestoreInProgress,
    SecrynError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.instance.events import LogSource, Restored, RestoreStarted
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

LOOK_S = 0.5


@dataclass
class _Run:
    """One restore while it goes."""

    context: RestoreContext
    accepted: AcceptedRestore
    restore: Restore
    meta: EventMeta
    began: float
    last_look: float = 0.0

    @property
    def id(self) -> str:
        return self.restore.restore_id

    def look(self) -> None:
        """Go on, or raise Interrupted or Cancelled."""
        if self.context.stop.is_set():
            raise Interrupted("the service stopped during the restore")
        if time.monotonic() - self.last_look < LOOK_S:
            return
        self.last_look = time.monotonic()
        with self.context.transaction("looking for a cancellation") as conn:
            if self.context.history.load(conn, self.id).cancel_requested:
                raise Cancelled("the restore was cancelled")

    def step(self, name: str, total_bytes: int | None = None) -> None:
        """Show the step that begins."""
        self.look()
        self.context.progress.step(self.id, name, total_bytes)

    def advance(self, done_bytes: int) -> None:
        """Show how far the step is, and go on or give up."""
        self.look()
        self.context.progress.advance(self.id, done_bytes)

    def append(self, conn: Connection, events: list[NewEvent]) -> None:
        """Append at the version that this run knows. Raises ConcurrencyConflict."""
        stored = self.context.history.append(conn, self.id, self.restore.version, events, self.meta)
        self.restore.version = stored[-1].version

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event of our own in a transaction of its own.

        A cancellation that came in between is found here. Raises Cancelled.
        """
        try:
            with self.context.transaction("noting a step") as conn:
                event = NewEvent(kind, {"restore_id": self.id} | data, RESTORE_EVENTS)
                self.append(conn, [event])
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None


def restore_instance(context: RestoreContext, restore_id: str) -> None:
    """Run an accepted restore to its end: Restored, Aborted, Failed or Cancelled."""
    with context.transaction("beginning the restore") as conn:
        # Behind the append lock a request that is being stored is stored, or never will be.
        context.store.lock_appends(conn)
        if not context.history.exists(conn, restore_id):
            # Its request was never stored: the one who asked was told so.
            del context.accepted[restore_id]
            return
        restore = context.history.load(conn, restore_id)
    accepted = context.accepted.pop(restore_id)
    if restore.ended:
        # While we were without PostgreSQL another process found nobody alive who has its key.
        log.warning("restore.ended_elsewhere", restore_id=restore_id, state=restore.state)
        return
    context.progress.begin(restore_id)
    facts = restore.facts
    meta = EventMeta(facts["requested_by"], facts["correlation_id"], restore_id)
    run = _Run(context, accepted, restore, meta, time.monotonic())
    try:
        checked = _check(run)
        fence = _fence(run, checked)
        _load(run, checked, fence)
        restored_id = _cut_over(run, checked, fence)
        _complete(run, restored_id)
    except SecrynError as error:
        give_up(context, restore_id, error, meta)
    except Exception as error:
        log.error("restore.crashed", restore_id=restore_id, exc_info=error)
        wrapped = RestoreFailedError(f"an unexpected error ({type(error).__name__})")
        give_up(context, restore_id, wrapped, meta)
    finally:
        context.progress.end(restore_id)


def _check(run: _Run) -> CheckedArchive:
    context, command = run.context, run.accepted.command
    run.step("checking the archive")
    check_target(context, command)
    with context.transaction("checking the store") as conn:
        _check_no_other(run, conn)
        check_store(conn)
    checked = check_archive(context, command, run.accepted.key, run.advance)
    run.note(ev.CHECKED, {"checks": checked.facts})
    return checked


def _check_no_other(run: _Run, conn: Connection) -> None:
    """Raise RestoreInProgress behind the fence of a restore that has not ended.

    One that ended, or that only the log knows, is no reason to refuse: a store that is rebuilt
    from the log, and cannot get past such a restore, has no other way out than this one.
    """
    owner = present_position(conn).fence_restore_id
    history = run.context.history
    if owner is not None and history.exists(conn, owner) and not history.load(conn, owner).ended:
        raise RestoreInProgress(f"the fence of restore {owner} is open")


def _fence(run: _Run, checked: CheckedArchive) -> Fence:
    context = run.context
    settings = context.settings.restore
    run.step("waiting for a running backup")
    with exclusive_guard(context, settings.guard_wait_s, run.look):
        run.step("raising the fence")
        with context.transaction("reading the position") as conn:
            present = present_position(conn)
        # Whoever holds the worker's lock is the only one to raise a fence: this stays so.
        unseen = read_unseen(context, present)
        event_id, fence_no = _append_fence(run, checked, unseen)
        offset = wait_for_delivery(context, event_id, settings.fence_wait_s)
        fence = Fence(fence_no, offset, event_id, unseen.epoch + 1)
        if not wait_for_projector(context, fence, run.id, unseen, settings.fence_wait_s):
            log.warning("fence.without_projector", restore_id=run.id, offset=offset)
    return fence


def _append_fence(run: _Run, checked: CheckedArchive, unseen: Unseen) -> tuple[UUID, int]:
    with run.context.transaction("appending the fence") as conn:
        fence_no = run.context.history.next_fence_no(conn, run.id, unseen.highest_fence_no)
        started = RestoreStarted(
            restore_id=UUID(run.id), fence_no=fence_no, backup_id=UUID(checked.facts["backup_id"])
        )
        event = NewEvent(RestoreStarted.TYPE, started.model_dump(mode="json"), INSTANCE_EVENTS)
        try:
            run.append(conn, [event])
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None
        return event.event_id, fence_no


def _load(run: _Run, checked: CheckedArchive, fence: Fence) -> None:
    context, schema = run.context, staging_name(run.id)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(context.kafka.topic(INSTANCE_EVENTS))
    with postgres_faults("loading"), owner_connection(context.settings.postgres.dsn) as conn:
        run.step("loading", checked.size_bytes)
        with conn.transaction():
            with open_source(context, run.accepted.command) as source:
                archive = open_archive(source, [run.accepted.key.identity])
                manifest = load_staging(conn, archive, schema, context.root, run.advance)
            if archive.sha256 != checked.sha256:
                raise ArchiveAltered("the archive changed while it was read")
            run.step("building the indexes")
            finish_staging(conn, schema, archive.header.schema_version)
        run.step("comparing every row")
        found = compare_with_manifest(conn, schema, manifest)
        with conn.transaction():
            position = staged_position(fence, run.id, identity)
            prepare_takeover(conn, schema, position)
        analyze(conn, schema)
    rows = {name: table.rows for name, table in found.tables.items()}
    run.note(ev.LOADED, {"proof": {"digest": found.digest, "tables": rows, "equal": True}})


def _cut_over(run: _Run, checked: CheckedArchive, fence: Fence) -> UUID:
    restored = _restored(run, checked, fence)
    context, settings = run.context, run.context.settings.restore
    run.step("waiting for older transactions")
    with (
        postgres_faults("cutting over"),
        psycopg.connect(context.settings.postgres.dsn, autocommit=True) as conn,
    ):
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None and isinstance(row[0], datetime)
        ended = drain_older(conn, row[0], settings.drain_wait_s, run.look)
        run.step("cutting over")
        outcome = {
            "epoch": fence.epoch,
            "fence_offset": fence.offset,
            "backup_offset": checked.facts["offset"],
            "sessions_ended": ended,
            "kept_as": before_name(run.id),
        }

        def decide(conn: Connection) -> None:
            decided = NewEvent(
                ev.CUT_OVER, {"restore_id": run.id, "outcome": outcome}, RESTORE_EVENTS
            )
            run.append(conn, [decided, restored])

        try:
            cut_over(
                conn,
                live=INSTANCE,
                staging=staging_name(run.id),
                before=before_name(run.id),
                lock_timeout_ms=settings.lock_timeout_ms,
                wait_s=settings.cutover_wait_s,
                decide=decide,
                look=run.look,
            )
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None
    log.info("restore.cut_over", restore_id=run.id, epoch=fence.epoch, offset=fence.offset)
    return restored.event_id


def _restored(run: _Run, checked: CheckedArchive, fence: Fence) -> NewEvent:
    facts = checked.facts
    restored = Restored(
        restore_id=UUID(run.id),
        fence_no=fence.fence_no,
        fence_offset=fence.offset,
        epoch=fence.epoch,
        backup_id=UUID(facts["backup_id"]),
        source=LogSource(
            cluster_id=facts["cluster_id"],
            topic_id=facts["topic_id"],
            snapshot_offset=facts["offset"],
            position=facts["offset"],
        ),
    )
    return NewEvent(Restored.TYPE, restored.model_dump(mode="json"), INSTANCE_EVENTS)


def _complete(run: _Run, restored_id: UUID) -> None:
    """Wait until the instance takes writes again, so that "restored" means that; then say so.

    A projector or a Kafka that is away is not waited for: the state stands, and the fence closes
    when they are back.
    """
    context = run.context
    context.progress.step(run.id, "waiting for the projector")
    if not wait_until_reopened(context, restored_id, context.settings.restore.fence_wait_s):
        log.warning("restore.fence_still_open", restore_id=run.id)
    duration_s = round(time.monotonic() - run.began, 3)
    complete_restore(context, run.id, run.meta, duration_s)
