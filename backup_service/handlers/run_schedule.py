"""A tick of the schedule: taken once, by whoever leads, and its backup asked for with it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from backup_service import events as ev
from backup_service.commands import CreateBackup
from backup_service.configuration.reading import Configured, read_configured
from backup_service.configuration.schedule import Schedule
from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.request_backup import store_request
from backup_service.protection import unchanged_since
from backup_service.schedule.taken import (
    Taken,
    configuration_of,
    decided_until,
    read_taken,
    tick_command,
)
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import ConcurrencyConflict, error_class
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS
from shared.standing.ticks import Due, find_due

log = structlog.get_logger(__name__)

DUE = CrashPoint("schedule.tick.due")
TAKING = CrashPoint("schedule.tick.uncommitted")
TAKEN = CrashPoint("schedule.tick.committed")

# Set back by more than this, a clock was wrong before, and ticks go on from what it shows now.
SET_BACK: Final = timedelta(hours=1)
MAX_ATTEMPTS: Final = 3
RETRY_AFTER: Final = timedelta(seconds=30)
ACTOR: Final = "schedule"


@dataclass(frozen=True)
class Plan:
    """The schedule and the last decision about it, as one transaction read them."""

    now: datetime
    schedule: Configured[Schedule]
    taken: Taken
    behind: datetime


def run_schedule(context: BackupContext) -> None:
    """Take the tick that is due, if one is; ask again for a run that was interrupted.

    Raises UnavailableError. Whoever else decides at the same time decides alone.
    """
    plan = _read_plan(context)
    if plan is None:
        return
    if plan.behind > plan.now + SET_BACK:
        _begin_anew(context, plan)
        return
    due = find_due(plan.schedule.value, seed_of(context), plan.now, plan.behind)
    if due is not None:
        DUE.reach()
        _take(context, plan, due)
    else:
        _try_again(context, plan)


def seed_of(context: BackupContext) -> str:
    """Return what the delays of this instance are derived from."""
    return str(context.settings.place.instance_id)


def schedule_requester(tick: str) -> Requester:
    """Return who asks for a scheduled backup: whoever set the schedule was asked for the right."""
    return Requester(ACTOR, frozenset({"create", "view_key"}), SERVICE, f"schedule-{tick}")


def _read_plan(context: BackupContext) -> Plan | None:
    """Return what to decide on; None while the schedule is off, paused or not confirmed."""
    with postgres_faults("reading the schedule"), context.pool.connection() as conn:
        schedule = read_configured(conn, context.store, Schedule)
        taken = read_taken(context, conn)
    behind = decided_until(schedule, taken)
    if not schedule.value.enabled or schedule.paused or behind is None:
        return None
    return Plan(context.clock.now(), schedule, taken, behind)


def _take(context: BackupContext, plan: Plan, due: Due) -> None:
    """Decide about the tick in one transaction; of two who do, the second finds it decided."""
    schedule, tick = plan.schedule.value, due.tick
    unchanged = unchanged_since(context) if schedule.skip_if_unchanged else None
    with (
        suppress(ConcurrencyConflict),
        postgres_faults("taking a tick"),
        context.pool.connection() as conn,
    ):
        context.store.lock_appends(conn)
        if read_configured(conn, context.store, Schedule).etag != plan.schedule.etag:
            # Somebody, or a restore, decided in between: about another schedule it is planned anew.
            return
        outcome, about = _outcome(context, conn, plan, due, unchanged)
        command = tick_command(context, plan.schedule, plan.taken, tick.at, 1)
        runs = outcome == "run"
        facts = {
            "tick": tick.at.isoformat(),
            "due_at": tick.due_at.isoformat(),
            "outcome": outcome,
            "missed": due.missed,
            "attempt": 1 if runs else 0,
            "backup_id": str(command.backup_id) if runs else about,
            "behind": tick.at.isoformat(),
        }
        _append(context, conn, plan, ev.TICK_TAKEN, facts)
        if runs:
            _request(context, conn, command, tick.at, 1)
        TAKING.reach()
    TAKEN.reach()


def _outcome(
    context: BackupContext, conn: Connection, plan: Plan, due: Due, unchanged: str | None
) -> tuple[str, str | None]:
    """Return what becomes of a tick, and the backup that is the reason."""
    if due.late and plan.schedule.value.missed == "skip":
        return "skipped", None
    going = context.history.going_on(conn)
    if going is not None:
        return "overlapped", going
    if unchanged is not None:
        return "unchanged", unchanged
    return "run", None


def _try_again(context: BackupContext, plan: Plan) -> None:
    """Ask again for a run that failed by what passes: the death of its process, a lost part."""
    taken = plan.taken
    if taken.backup_id is None or taken.tick is None or not 0 < taken.attempt < MAX_ATTEMPTS:
        return
    with (
        suppress(ConcurrencyConflict),
        postgres_faults("looking at the last run"),
        context.pool.connection() as conn,
    ):
        backup = context.history.get(conn, taken.backup_id)
        if not _passes(backup, plan.now) or context.history.going_on(conn) is not None:
            return
        attempt = taken.attempt + 1
        command = tick_command(context, plan.schedule, taken, taken.tick, attempt)
        facts = {
            "tick": taken.tick.isoformat(),
            "outcome": "run",
            "attempt": attempt,
            "backup_id": str(command.backup_id),
            "failed_backup_id": taken.backup_id,
            "code": backup["error"]["code"],
            "behind": plan.behind.isoformat(),
        }
        _append(context, conn, plan, ev.TICK_RETRIED, facts)
        _request(context, conn, command, taken.tick, attempt)
        log.warning("schedule.retried", tick=facts["tick"], attempt=attempt, code=facts["code"])


def _passes(backup: dict[str, Any], now: datetime) -> bool:
    if backup["state"] != "failed":
        return False
    ended = datetime.fromisoformat(backup["ended_at"])
    return error_class(backup["error"]["code"]).retryable and now - ended >= RETRY_AFTER


def _begin_anew(context: BackupContext, plan: Plan) -> None:
    """The clock was set back: ticks are counted from now, those that come again are others."""
    anew = replace(plan, taken=replace(plan.taken, era=plan.taken.era + 1))
    facts = {"behind": plan.now.isoformat(), "was_behind": plan.behind.isoformat()}
    with (
        suppress(ConcurrencyConflict),
        postgres_faults("beginning anew"),
        context.pool.connection() as conn,
    ):
        _append(context, conn, anew, ev.SCHEDULE_REBASED, facts)
    log.warning("schedule.clock_set_back", **facts)


def _append(
    context: BackupContext, conn: Connection, plan: Plan, kind: str, facts: dict[str, Any]
) -> None:
    """Append a decision at the version that the plan was made for. Raises ConcurrencyConflict."""
    common = {"era": plan.taken.era, "configuration": configuration_of(plan.schedule)}
    meta = EventMeta(ACTOR, f"schedule-{facts.get('tick', facts['behind'])}")
    event = NewEvent(kind, facts | common, BACKUP_EVENTS)
    context.store.append(conn, ev.TICKS_STREAM, plan.taken.version, [event], meta)
    entry = AuditEntry(
        "schedule.tick", "success", ACTOR, "schedule", "backup.schedule",
        details=facts | common | {"event": kind},
    )  # fmt: skip
    context.audit.record(conn, entry, meta.correlation_id)


def _request(
    context: BackupContext, conn: Connection, command: CreateBackup, tick: datetime, attempt: int
) -> None:
    trigger = {"kind": "schedule", "tick": tick.isoformat(), "attempt": attempt}
    store_request(context, conn, command, schedule_requester(tick.isoformat()), trigger)
