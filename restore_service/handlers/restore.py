"""Restore: check, fence, load, compare, cut over; or the instance stays as it was.

Every step before the cut-over ends, when it fails, in Aborted (a fence was raised) or Failed (it
was not), with nothing left. The cut-over's transaction is the decision; behind it there is only
Restored. ``CRASH_POINTS`` names the places between the steps, for the tests that kill there.
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
)
from restore_service.staging import (
    INSTANCE,
    analyze,
    become_owner,
    before_name,
    compare_with_manifest,
    drop_schema,
    finish_staging,
    leftover_schemas,
    load_staging,
    prepare_takeover,
    staging_name,
)
from shared.archive.reader import open_archive
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.errors import (
    ArchiveAltered,
    Cancelled,
    ConcurrencyConflict,
    Interrupted,
    RestoreFailedError,
    RestoreInProgress,
    SecrynError,
    UnavailableError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.instance.events import LogSource, RestoreAborted, Restored, RestoreStarted
from shared.instance.position import LogPosition
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

log = structlog.get_logger(__name__)

LOOK_S = 0.5
CRASH_POINTS = (
    "requested",
    "checked",
    "fence_appended",
    "fence_stands",
    "staging_loaded",
    "staging_committed",
    "drained",
    "cut_over",
    "completed",
)


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
    accepted = context.accepted.pop(restore_id)
    context.progress.begin(restore_id)
    with context.transaction("beginning the restore") as conn:
        restore = context.history.load(conn, restore_id)
    facts = restore.facts
    meta = EventMeta(facts["requested_by"], facts["correlation_id"], restore_id)
    run = _Run(context, accepted, restore, meta, time.monotonic())
    try:
        checked = _check(run)
        fence, present = _fence(run, checked)
        _load(run, checked, fence, present)
        _cut_over(run, checked, fence, present)
        _complete(run)
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
        if present_position(conn).fenced:
            raise RestoreInProgress("a fence is open already")
        check_store(conn)
    checked = check_archive(context, command, run.accepted.key, run.advance)
    run.note(ev.CHECKED, {"checks": checked.facts})
    return checked


def _fence(run: _Run, checked: CheckedArchive) -> tuple[Fence, LogPosition]:
    context = run.context
    settings = context.settings.restore
    run.step("waiting for a running backup")
    with exclusive_guard(context, settings.guard_wait_s, run.look):
        run.step("raising the fence")
        event_id, fence_no, present = _append_fence(run, checked)
        offset = wait_for_delivery(context, event_id, settings.fence_wait_s)
        fence = Fence(fence_no, offset, event_id, present.epoch + 1)
        by_projector = wait_for_projector(context, fence, run.id, settings.fence_wait_s)
    if not by_projector:
        log.warning("fence.taken", restore_id=run.id, offset=offset)
    # Behind the fence the epoch cannot move; before it another restore could have moved it.
    with context.transaction("reading the position") as conn:
        present = present_position(conn)
    return Fence(fence_no, offset, event_id, present.epoch + 1), present


def _append_fence(run: _Run, checked: CheckedArchive) -> tuple[UUID, int, LogPosition]:
    with run.context.transaction("appending the fence") as conn:
        present = present_position(conn)
        fence_no = run.context.history.next_fence_no(conn, run.id, present.highest_fence_no)
        started = RestoreStarted(
            restore_id=UUID(run.id), fence_no=fence_no, backup_id=UUID(checked.facts["backup_id"])
        )
        event = NewEvent(RestoreStarted.TYPE, started.model_dump(mode="json"), INSTANCE_EVENTS)
        try:
            run.append(conn, [event])
        except ConcurrencyConflict:
            raise Cancelled("the restore was cancelled") from None
        return event.event_id, fence_no, present


def _load(run: _Run, checked: CheckedArchive, fence: Fence, present: LogPosition) -> None:
    context, schema = run.context, staging_name(run.id)
    with context.kafka.admin() as admin:
        identity = admin.log_identity(context.kafka.topic(INSTANCE_EVENTS))
    with postgres_faults("loading"), _owner_connection(context) as conn:
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
            position = staged_position(present, fence, run.id, identity)
            prepare_takeover(conn, schema, position)
        analyze(conn, schema)
    rows = {name: table.rows for name, table in found.tables.items()}
    run.note(ev.LOADED, {"proof": {"digest": found.digest, "tables": rows, "equal": True}})


def _owner_connection(context: RestoreContext) -> Connection:
    conn: Connection = psycopg.connect(
        context.settings.postgres.dsn, autocommit=True, connect_timeout=10
    )
    become_owner(conn)
    return conn


def _cut_over(run: _Run, checked: CheckedArchive, fence: Fence, present: LogPosition) -> None:
    context, settings = run.context, run.context.settings.restore
    run.step("waiting for older transactions")
    with (
        postgres_faults("cutting over"),
        psycopg.connect(context.settings.postgres.dsn, autocommit=True) as conn,
    ):
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None and isinstance(row[0], datetime)
        ended = drain_older(conn, row[0], settings.drain_wait_s)
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
            run.append(conn, [decided, _restored(run, checked, fence)])

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


def _complete(run: _Run) -> None:
    duration_s = round(time.monotonic() - run.began, 3)
    complete_restore(run.context, run.id, run.meta, duration_s)


def complete_restore(
    context: RestoreContext, restore_id: str, meta: EventMeta, duration_s: float | None
) -> None:
    """Record the end of a restore that was cut over; may be repeated."""
    with context.transaction("completing the restore") as conn:
        restore = context.history.load(conn, restore_id)
        if restore.ended:
            return
        data = {"restore_id": restore_id, "duration_s": duration_s} | {
            "epoch": restore.facts["epoch"], "proof": restore.facts.get("proof"),
        }  # fmt: skip
        event = NewEvent(ev.COMPLETED, data, RESTORE_EVENTS)
        context.history.append(conn, restore_id, restore.version, [event], meta)
        entry = AuditEntry(
            "restore.completed", "success", meta.actor, "restore", restore_id,
            log_offset=restore.facts["fence_offset"],
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
    log.info("restore.completed", restore_id=restore_id, duration_s=duration_s)


def give_up(context: RestoreContext, restore_id: str, error: SecrynError, meta: EventMeta) -> None:
    """Leave the instance as it was: drop the staging schema, lower the fence, say why.

    A restore that was cut over is completed instead: that decision was made. While PostgreSQL is
    away nothing is decided; recovery at the next start does it.
    """
    while True:
        try:
            _give_up_once(context, restore_id, error, meta)
            return
        except ConcurrencyConflict:
            continue
        except UnavailableError as fault:
            log.warning("restore.end_unrecorded", restore_id=restore_id, code=fault.code)
            return


def _give_up_once(
    context: RestoreContext, restore_id: str, error: SecrynError, meta: EventMeta
) -> None:
    with context.transaction("reading the restore") as conn:
        restore = context.history.load(conn, restore_id)
    if restore.cut_over:
        complete_restore(context, restore_id, meta, None)
        return
    with postgres_faults("dropping the staging schema"), _owner_connection(context) as conn:
        staging = staging_name(restore_id)
        if staging in leftover_schemas(conn)[0]:
            with conn.transaction():
                drop_schema(conn, staging)
    fault = {"code": error.code, "message": error.message, "hint": error.advice}
    cancelled = isinstance(error, Cancelled)
    events: list[NewEvent] = []
    if restore.fence_open and restore.fence_no is not None:
        events.append(abort_event(restore_id, restore.fence_no, error.code))
    kind = ev.CANCELLED if cancelled else ev.ABORTED if restore.fence_open else ev.FAILED
    events.append(NewEvent(kind, {"restore_id": restore_id, "error": fault}, RESTORE_EVENTS))
    with context.transaction("recording the end") as conn:
        context.history.append(conn, restore_id, restore.version, events, meta)
        entry = AuditEntry(
            "restore.run", "failure", meta.actor, "restore", restore_id, code=error.code,
            message=error.message,
        )  # fmt: skip
        context.audit.record(conn, entry, meta.correlation_id)
    log.warning("restore.ended", restore_id=restore_id, code=error.code, reason=error.message)


def abort_event(restore_id: str, fence_no: int, reason: str) -> NewEvent:
    """Return the event that lowers a fence."""
    aborted = RestoreAborted(restore_id=UUID(restore_id), fence_no=fence_no, reason=reason)
    return NewEvent(RestoreAborted.TYPE, aborted.model_dump(mode="json"), INSTANCE_EVENTS)
