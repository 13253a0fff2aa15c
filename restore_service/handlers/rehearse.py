"""Rehearse: what a restore does up to its cut-over, beside the instance; then prove what it gives.

No fence, no guard, nothing on the instance's log: writers and readers notice nothing, and a real
restore that comes meanwhile does not wait. What was loaded is dropped, however it ends.
"""

from __future__ import annotations

import time
from typing import Any

import structlog

from restore_service.checks import (
    CheckedArchive,
    check_rights,
    check_target,
    source_bytes,
    using_source,
)
from restore_service.comparing import compare_loaded
from restore_service.context import AcceptedRehearsal, RestoreContext
from restore_service.dependents import check_dependents
from restore_service.handlers.end_rehearsal import complete_rehearsal, end_rehearsal
from restore_service.hashing import Hashers, Hashing, digest_loaded
from restore_service.loading import load_archive, roll_forward
from restore_service.record import Record
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.chain import Goal, plan_goal
from restore_service.rehearsal.equivalence import fold_and_compare
from restore_service.rehearsal.run import RehearsalRun, RehearsalStep
from restore_service.rehearsal.scratch import scratch_schema
from restore_service.space import SpaceWatch, full_disk_named
from restore_service.staging import (
    INSTANCE,
    migrate_forward,
    prepare_takeover,
)
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import DependentObjects, RestoreFailedError, SecrynError
from shared.eventstore import EventMeta
from shared.instance.digest import InstanceDigest
from shared.instance.migrate import newest_version
from shared.instance.position import first_position

log = structlog.get_logger(__name__)

LOADED = CrashPoint("rehearsal.load.committed")


def run_rehearsal(context: RestoreContext, rehearsal_id: str) -> None:
    """Run an accepted rehearsal to its end: Rehearsed, Failed or Cancelled."""
    with context.transaction("beginning the rehearsal") as conn:
        # Behind the append lock a request that is being stored is stored, or never will be.
        context.store.lock_appends(conn)
        if not context.rehearsals.exists(conn, rehearsal_id):
            # Its request was never stored: the one who asked was told so.
            del context.to_rehearse[rehearsal_id]
            return
        rehearsal = context.rehearsals.load(conn, rehearsal_id)
    accepted = context.to_rehearse.pop(rehearsal_id)
    if rehearsal.ended:
        # While we were without PostgreSQL another process found nobody alive who has its key.
        log.warning("rehearsal.ended_elsewhere", rehearsal_id=rehearsal_id, state=rehearsal.state)
        return
    facts = rehearsal.facts
    meta = EventMeta(facts["requested_by"], facts["correlation_id"], rehearsal_id)
    context.progress.begin(rehearsal_id)
    try:
        with using_source(context, accepted.command):
            _rehearse(RehearsalRun(context, rehearsal, meta), accepted)
    except SecrynError as error:
        end_rehearsal(context, rehearsal_id, error, meta)
    except Exception as error:
        log.error("rehearsal.crashed", rehearsal_id=rehearsal_id, exc_info=error)
        wrapped = RestoreFailedError(f"an unexpected error ({type(error).__name__})")
        end_rehearsal(context, rehearsal_id, wrapped, meta)
    finally:
        context.progress.end(rehearsal_id)


def _rehearse(run: RehearsalRun, accepted: AcceptedRehearsal) -> None:
    began = time.monotonic()
    obstacles = _check(run, accepted)
    checks, state, proof = _load(run, accepted)
    if accepted.command.fold_log:
        proof["equivalence"] = fold_and_compare(run, checks, state)
        proof["equivalent"] = proof["equivalence"]["equivalent"]
    run.step(RehearsalStep.COMPLETE)
    run.stop_timing()
    result = {name: checks[name] for name in ("backup_id", "sha256", "offset", "size_bytes")} | {
        "rows": checks["rows"],
        "outcome": _outcome(proof),
        "proof": proof,
        "durations": run.durations,
        "duration_s": round(time.monotonic() - began, 3),
        "estimate": run.estimate(),
        "obstacles": obstacles,
    }
    complete_rehearsal(run, result)


def _check(run: RehearsalRun, accepted: AcceptedRehearsal) -> list[dict[str, Any]]:
    """Check the place; return what a restore would be refused for at this moment."""
    run.step(RehearsalStep.CHECK)
    check_target(run.context, accepted.command)
    with run.context.transaction("checking the store") as conn:
        check_rights(conn)
        return _obstacles(conn)


def _obstacles(conn: Connection) -> list[dict[str, Any]]:
    """Return what stands in the way of a restore, though the backup is good."""
    try:
        check_dependents(conn, INSTANCE)
    except DependentObjects as error:
        return [{"code": error.code, "message": error.message}]
    return []


def _load(
    run: RehearsalRun, accepted: AcceptedRehearsal
) -> tuple[dict[str, Any], InstanceDigest, dict[str, Any]]:
    """Load, compare, roll forward.

    Returns what was checked, the backup's own state and what was proven so far.
    """
    with scratch_schema(run.context, run.id) as (conn, schema), full_disk_named():
        checked, goal, found = _load_and_compare(run, accepted, conn, schema)
        state = _at_newest_version(run, conn, schema, found)
        rows = {name: table.rows for name, table in found.tables.items()}
        proof: dict[str, Any] = {
            "digest": found.digest, "tables": rows, "equal": True, "roll_forward": None,
            "equivalent": None, "equivalence": None,
        }  # fmt: skip
        if goal is not None:
            proof["roll_forward"] = _roll_forward(run, conn, schema, goal)
        run.step(RehearsalStep.PREPARE)
        # Tried and taken back: nobody else gets to see what is rehearsed.
        with conn.transaction(force_rollback=True):
            prepare_takeover(conn, schema, first_position("", ""))
    return checked.facts, state, proof


def _load_and_compare(
    run: RehearsalRun, accepted: AcceptedRehearsal, conn: Connection, schema: str
) -> tuple[CheckedArchive, Goal | None, InstanceDigest]:
    """Load the archive while it is checked; return where to roll forward to, too, and its state."""
    context = run.context
    size_bytes = source_bytes(context, accepted.command)
    run.step(RehearsalStep.LOAD, size_bytes)
    # A restore that comes meanwhile must find its own.
    what = "the rehearsal, with room for a restore beside it,"
    space = SpaceWatch(conn, context.settings.restore, what, times=2)
    record = Record.of(context, accepted.command)
    space.expect(None if record is None else record.copy_bytes, size_bytes)
    with Hashers(_hashing(run)) as hashers:
        with conn.transaction():
            loaded = load_archive(
                context, accepted, conn, schema,
                space=space, hashers=hashers, on_progress=run.advance,
            )  # fmt: skip
            goal = _note_checked(run, accepted, loaded.checked, space)
        LOADED.reach()
        # What is proven here is proven from the rows alone, whatever the receipt says.
        found = compare_loaded(run, RehearsalStep, conn, schema, loaded, hashers=hashers).found
    return loaded.checked, goal, found


def _note_checked(
    run: RehearsalRun, accepted: AcceptedRehearsal, checked: CheckedArchive, space: SpaceWatch
) -> Goal | None:
    """Say what was found of the archive; return where to roll forward to."""
    checked.facts["space"] = space.facts
    goal = plan_goal(run.context, accepted.command, checked.facts, run.look)
    if goal is not None:
        checked.facts["roll_forward"] = {"to": goal.way.target, "offsets": goal.way.offsets}
    run.note(ev.CHECKED, {"checks": checked.facts})
    return goal


def _digest(run: RehearsalRun, conn: Connection, schema: str) -> InstanceDigest:
    return digest_loaded(conn, schema, _hashing(run), run.advance)


def _hashing(run: RehearsalRun) -> Hashing:
    return Hashing.by(run.context.settings, rehearsing=True)


def _at_newest_version(
    run: RehearsalRun, conn: Connection, schema: str, found: InstanceDigest
) -> InstanceDigest:
    """Migrate as a restore does; what the log is folded into is of the newest version, too."""
    with conn.transaction():
        migrate_forward(conn, schema)
    return found if found.schema_version == newest_version() else _digest(run, conn, schema)


def _roll_forward(run: RehearsalRun, conn: Connection, schema: str, goal: Goal) -> dict[str, Any]:
    run.step(RehearsalStep.REPLAY, goal.way.offsets)
    rolled = roll_forward(run.context, goal.way, conn, schema, run.advance)
    run.step(RehearsalStep.COMPARE_END)
    return rolled | goal.compare(_digest(run, conn, schema))


def _outcome(proof: dict[str, Any]) -> str:
    rolled = proof["roll_forward"] or {}
    return ev.DIFFERS if False in (proof["equivalent"], rolled.get("equal")) else ev.RESTORABLE
