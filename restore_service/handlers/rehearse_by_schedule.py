"""A tick of the rehearsals' schedule: taken once, by whoever leads, and its rehearsal stored with it.

The key is the place's own identity: in the memory of the process that took the tick, and in no
command. A tick on which nothing can be rehearsed is told with the reason.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from restore_service.checks import check_source, check_target
from restore_service.commands import RehearsalTask
from restore_service.context import SERVICE, AcceptedRehearsal, RestoreContext
from restore_service.handlers.request_rehearsal import check_none_rehearses, store_request
from restore_service.rehearsal import ticks
from restore_service.rehearsal.choosing import newest_for
from restore_service.rehearsal.identity import StandingIdentity
from restore_service.requests import check_none_runs
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import (
    ConcurrencyConflict,
    ConflictError,
    SecrynError,
    TickMissed,
    UnavailableError,
    error_class,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS
from shared.standing.ticks import find_due

log = structlog.get_logger(__name__)

TAKING = CrashPoint("rehearsal.tick.uncommitted")
TAKEN = CrashPoint("rehearsal.tick.committed")

# Set back by more than this, a clock was wrong before, and ticks go on from what it shows now.
SET_BACK: Final = timedelta(hours=1)
MAX_ATTEMPTS: Final = 3
RETRY_AFTER: Final = timedelta(seconds=30)
ACTOR: Final = "schedule"


@dataclass(frozen=True)
class Plan:
    """When rehearsals run and the last decision about it, as one transaction read them."""

    now: datetime
    setting: ticks.Setting
    decided: ticks.Decided
    behind: datetime


@dataclass(frozen=True)
class Run:
    """A tick that is to be taken: the first time, or again."""

    kind: str
    tick: datetime
    attempt: int
    behind: datetime
    about: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what every decision about it says."""
        common = {"tick": self.tick.isoformat(), "attempt": self.attempt}
        return common | {"behind": self.behind.isoformat()} | self.about


def rehearse_by_schedule(context: RestoreContext) -> None:
    """Take the tick that is due, if one is, where this place has an identity that opens backups.

    Whoever else decides at the same time decides alone. Raises UnavailableError.
    """
    if context.identity is None:
        return
    with context.transaction("reading when rehearsals run") as conn:
        setting, decided = ticks.read_setting(conn), ticks.read_decided(context, conn)
    behind = ticks.decided_until(setting, decided)
    if not setting.value.enabled or behind is None:
        return
    plan = Plan(context.clock.now(), setting, decided, behind)
    if plan.behind > plan.now + SET_BACK:
        _begin_anew(context, plan)
    elif (run := _due(context, plan) or _again(context, plan)) is not None:
        _take(context, plan, run, context.identity)


def _due(context: RestoreContext, plan: Plan) -> Run | None:
    seed = str(context.settings.place.instance_id)
    due = find_due(plan.setting.value, seed, plan.now, plan.behind)
    if due is None:
        return None
    at = due.tick.at
    about = {"due_at": due.tick.due_at.isoformat(), "missed": due.missed}
    missed = due.late and plan.setting.value.missed == "skip"
    return Run(ticks.TICK_TAKEN, at, 0 if missed else 1, at, about)


def _again(context: RestoreContext, plan: Plan) -> Run | None:
    """Return the last tick once more, if its rehearsal failed by what passes."""
    decided = plan.decided
    if decided.rehearsal_id is None or decided.tick is None or decided.attempt >= MAX_ATTEMPTS:
        return None
    with context.transaction("looking at the last rehearsal") as conn:
        last = context.rehearsals.get(conn, decided.rehearsal_id)
    if last["state"] != "failed" or not error_class(last["error"]["code"]).retryable:
        return None
    if plan.now - datetime.fromisoformat(last["ended_at"]) < RETRY_AFTER:
        return None
    about = {"failed_rehearsal_id": decided.rehearsal_id, "code": last["error"]["code"]}
    return Run(ticks.TICK_RETRIED, decided.tick, decided.attempt + 1, plan.behind, about)


def _take(context: RestoreContext, plan: Plan, run: Run, identity: StandingIdentity) -> None:
    """Decide about the tick in one transaction; of two who do, the second finds it decided."""
    found = _prepare(context, plan, run, identity)
    with suppress(ConcurrencyConflict), context.transaction("taking a tick") as conn:
        context.store.lock_appends(conn)
        busy = _busy(context, conn)
        if busy is not None and run.kind == ticks.TICK_RETRIED:
            return
        outcome = busy or found
        if isinstance(outcome, SecrynError):
            _skip(context, conn, plan, run, outcome)
        else:
            task = outcome.command
            facts = {"rehearsal_id": str(task.rehearsal_id), "backup_id": str(task.backup_id)}
            _append(context, conn, plan, run.kind, run.facts() | facts)
            store_request(context, conn, outcome, _requester(run))
        TAKING.reach()
    TAKEN.reach()


def _prepare(
    context: RestoreContext, plan: Plan, run: Run, identity: StandingIdentity
) -> AcceptedRehearsal | SecrynError:
    """Return what is to be rehearsed, with its key, or why nothing can be."""
    if run.attempt == 0:
        return TickMissed(f"nobody was there at {run.tick.isoformat()}")
    place, zone = context.settings.place, plan.setting.value.rule.zone
    local = run.tick.astimezone(zone).isoformat(timespec="minutes")
    again = "" if run.attempt == 1 else f", attempt {run.attempt}"
    try:
        key = identity.read()
        recipient = recipient_fingerprint(key.identity.to_recipient().encode())
        task = RehearsalTask(
            command_id=ticks.command_of(context, plan.decided.era, run.tick, run.attempt),
            target_instance_id=place.instance_id,
            environment=place.environment,
            backup_id=newest_for(context, recipient),
            reason=f"the schedule, for {local}{again}",
            fold_log=plan.setting.value.fold_log,
        )
        check_target(context, task)
        check_source(context, task)
    except UnavailableError:
        # It passes, and the tick is still there then.
        raise
    except SecrynError as error:
        return error
    return AcceptedRehearsal(task, key)


def _busy(context: RestoreContext, conn: Connection) -> SecrynError | None:
    """Return what is going on that a rehearsal by itself does not come on top of."""
    try:
        check_none_runs(context, conn)
        check_none_rehearses(context, conn)
    except ConflictError as error:
        return error
    return None


def _requester(run: Run) -> Requester:
    """Return who asks: whoever set the schedule was asked for the right."""
    return Requester(ACTOR, frozenset({"restore"}), SERVICE, _correlation(run.tick.isoformat()))


def _correlation(tick: str) -> str:
    return f"rehearsal-{tick}"


def _skip(
    context: RestoreContext, conn: Connection, plan: Plan, run: Run, error: SecrynError
) -> None:
    fault = {"code": error.code, "message": error.message, "hint": error.advice}
    facts = run.facts() | {"rehearsal_id": None, "reason": error.message, "error": fault}
    _append(context, conn, plan, ticks.SKIPPED, facts)
    log.warning("rehearsal.skipped", tick=run.tick.isoformat(), code=error.code)


def _begin_anew(context: RestoreContext, plan: Plan) -> None:
    """The clock was set back: ticks are counted from now, those that come again are others."""
    anew = replace(plan, decided=replace(plan.decided, era=plan.decided.era + 1))
    facts = {"behind": plan.now.isoformat(), "was_behind": plan.behind.isoformat()}
    with suppress(ConcurrencyConflict), context.transaction("beginning anew") as conn:
        _append(context, conn, anew, ticks.REBASED, facts)
    log.warning("rehearsal.clock_set_back", **facts)


def _append(
    context: RestoreContext, conn: Connection, plan: Plan, kind: str, facts: dict[str, Any]
) -> None:
    """Append a decision at the version that the plan was made for. Raises ConcurrencyConflict."""
    facts = facts | {"era": plan.decided.era, "setting": plan.setting.digest}
    meta = EventMeta(ACTOR, _correlation(facts.get("tick", facts["behind"])))
    event = NewEvent(kind, facts, RESTORE_EVENTS)
    context.store.append(conn, ticks.STREAM, plan.decided.version, [event], meta)
    skipped = kind == ticks.SKIPPED
    entry = AuditEntry(
        "rehearsal.tick", "failure" if skipped else "success", ACTOR, "schedule",
        "backup.rehearsal", code=facts["error"]["code"] if skipped else "",
        details={name: value for name, value in facts.items() if name != "error"} | {"event": kind},
    )  # fmt: skip
    context.audit.record(conn, entry, meta.correlation_id)
