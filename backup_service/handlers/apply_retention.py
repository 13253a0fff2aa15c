"""Apply the rules: asked for by a person, a command or a scheduled run; done once, by the worker.

Each backup is judged again in the transaction that begins its purge: whatever was set, held or
downloaded since the rules were asked keeps it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from backup_service import events as ev
from backup_service.commands import RunRetention
from backup_service.context import SERVICE, BackupContext
from backup_service.handlers.purge_backup import (
    Ground,
    StillPurged,
    give_up_purge,
    purge_backup,
)
from backup_service.retention.evaluate import Candidate
from backup_service.retention.judging import Judged, judge, judge_by
from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.runs import stream_of
from serving.repeated import check_same
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.clock import Clock
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import (
    ConflictError,
    Interrupted,
    NotFoundError,
    SecrynError,
    UnavailableError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

ASKED = CrashPoint("backup.retention.asked")
JUDGED = CrashPoint("backup.retention.judged")
APPLYING = CrashPoint("backup.retention.uncommitted")

# What an event names; it counts the rest.
MOST_NAMED: Final = 1000
_RUNS: Final = UUID("c5d3f5c2-1b9a-5d1a-9c1e-6f0d8b7a4e90")
REASON_SCHEDULED: Final = "after a scheduled run"
REASON_RETRY: Final = "the storage refused before"


def request_retention(
    context: BackupContext, command: RunRetention, requester: Requester
) -> dict[str, Any]:
    """Have the worker apply the rules in force; a repeated command changes nothing.

    Raises AccessError, CommandReused, PostgresUnavailable.
    """
    requester.require("delete")
    run_id = _run_of(command.command_id)
    meta = EventMeta(requester.name, requester.correlation_id, str(command.command_id))
    with postgres_faults("asking for retention"), context.pool.connection() as conn:
        _ask(context, conn, run_id, command.reason, (meta, requester.source))
        first = context.store.read_stream(conn, stream_of(run_id))[0]
        check_same(command.command_id, first, ev.RETENTION_REQUESTED, {"reason": command.reason})
        return context.runs.get(conn, run_id)


def retain_after(
    context: BackupContext, conn: Connection, cause: object, reason: str = REASON_SCHEDULED
) -> None:
    """Have the worker apply the rules after ``cause``, once for each; in the caller's transaction.

    A scheduled backup asks for it in the very transaction that announces it.
    """
    meta = EventMeta(SERVICE, str(cause), str(cause))
    _ask(context, conn, _run_of(cause), reason, (meta, SERVICE))


def _run_of(cause: object) -> str:
    return str(uuid5(_RUNS, str(cause)))


def _ask(
    context: BackupContext,
    conn: Connection,
    run_id: str,
    reason: str,
    by: tuple[EventMeta, str],
) -> None:
    meta, source = by
    asked = NewEvent(ev.RETENTION_REQUESTED, {"run_id": run_id, "reason": reason}, BACKUP_EVENTS)
    context.store.lock_appends(conn)
    if context.runs.exists(conn, run_id):
        return
    context.runs.append(conn, run_id, asked, meta)
    entry = AuditEntry(
        "retention.run", "success", meta.actor, "retention", run_id, source, message=reason
    )
    context.audit.record(conn, entry, meta.correlation_id)
    ASKED.reach()


def show_run(context: BackupContext, run_id: str) -> dict[str, Any]:
    """Return a run as it stands. Raises RetentionRunNotFound."""
    with postgres_faults("reading a retention run"), context.pool.connection() as conn:
        return context.runs.get(conn, run_id)


def preview_retention(
    context: BackupContext, rules: RetentionPolicy | None = None
) -> dict[str, Any]:
    """Return keep or purge for each backup by the rules in force, or by ``rules``; changes nothing."""
    with postgres_faults("previewing retention"), context.pool.connection() as conn:
        judged = judge(context, conn) if rules is None else judge_by(context, conn, rules)
    return judged.as_json()


def apply_waiting(context: BackupContext) -> None:
    """Do the runs that were asked for. Only the holder of the worker's lock may call this."""
    with postgres_faults("looking for retention runs"), context.pool.connection() as conn:
        waiting = context.runs.waiting(conn)
    for run_id in waiting:
        run = show_run(context, run_id)
        try:
            kind, facts = ev.RETENTION_APPLIED, _apply(context, run)
        except (UnavailableError, Interrupted):
            # It is asked for still, and done by whoever comes next.
            raise
        except SecrynError as error:
            fault = {"code": error.code, "message": error.message, "hint": error.advice}
            kind, facts = ev.RETENTION_FAILED, {"error": fault}
        _end(context, run, NewEvent(kind, {"run_id": run_id} | facts, BACKUP_EVENTS))


def _apply(context: BackupContext, run: dict[str, Any]) -> dict[str, Any]:
    with postgres_faults("judging"), context.pool.connection() as conn:
        judged = judge(context, conn)
        pending = {one["backup_id"]: one["purge"] for one in context.history.tended(conn)}
    JUDGED.reach()
    outcome = _purge_all(context, run, judged, pending)
    _give_up(context, judged, pending)
    return outcome


def _end(context: BackupContext, run: dict[str, Any], event: NewEvent) -> None:
    meta = EventMeta(run["requested_by"], run["correlation_id"], run["run_id"])
    with postgres_faults("recording the retention run"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        context.runs.append(conn, run["run_id"], event, meta)
        APPLYING.reach()
    log.info("retention.run_ended", type=event.type, **{
        name: event.data[name] for name in ("run_id", "kept", "purged", "refused", "error")
        if name in event.data
    })  # fmt: skip


def _purge_all(
    context: BackupContext, run: dict[str, Any], judged: Judged, pending: dict[str, Any]
) -> dict[str, Any]:
    """Purge what the rules name, the oldest first; return what came of it."""
    purged: list[str] = []
    refused: list[str] = []
    skipped: list[dict[str, str]] = []
    for verdict in reversed(judged.verdicts):
        backup_id = verdict.backup.backup_id
        if not verdict.purge or _waits(pending.get(backup_id), context.clock):
            continue
        if context.stop.is_set():
            raise Interrupted("the service stopped while the rules of retention were applied")
        ground = Ground(
            "retention", verdict.rule, f"{verdict.rule}: {run['reason']}", run["requested_by"],
            SERVICE, run["correlation_id"],
        )  # fmt: skip
        try:
            gone = purge_backup(context, backup_id, ground, _still_purged(context, backup_id))
        except (ConflictError, NotFoundError) as error:
            skipped.append({"backup_id": backup_id, "code": error.code})
            continue
        (purged if gone else refused).append(backup_id)
    rules = judged.rules.as_json()
    return {
        "rules": rules,
        "origin": judged.configured.origin,
        "kept": len(judged.verdicts) - len(purged),
        "purged": len(purged),
        "refused": len(refused),
        "purged_backups": purged[:MOST_NAMED],
        "refused_backups": refused[:MOST_NAMED],
        "skipped": skipped[:MOST_NAMED],
    }


def _still_purged(context: BackupContext, backup_id: str) -> StillPurged:
    def still(conn: Connection, candidates: list[Candidate]) -> bool:
        verdicts = judge(context, conn, candidates).verdicts
        return any(v.purge for v in verdicts if v.backup.backup_id == backup_id)

    return still


def _waits(purge: dict[str, Any] | None, clock: Clock) -> bool:
    """Tell whether the storage refused, and is not to be asked again yet."""
    if purge is None or purge["retry_at"] is None:
        return False
    return datetime.fromisoformat(purge["retry_at"]) > clock.now()


def _give_up(context: BackupContext, judged: Judged, pending: dict[str, Any]) -> None:
    """Forget refused purges of backups that the rules keep by now."""
    for verdict in judged.verdicts:
        purge = pending.get(verdict.backup.backup_id)
        if purge is not None and purge["why"] == "retention" and not verdict.purge:
            give_up_purge(context, verdict.backup.backup_id, f"kept by {verdict.rule}")
