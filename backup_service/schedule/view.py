"""The schedule as people see it, and how much a loss would cost now."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from backup_service.configuration.reading import Configured, read_configured
from backup_service.configuration.schedule import Schedule
from backup_service.context import BackupContext
from backup_service.handlers.run_schedule import seed_of
from backup_service.handlers.watch_confirmations import awaiting
from backup_service.handlers.watch_staleness import measure
from backup_service.protection import recovery_point
from backup_service.schedule.taken import Taken, decided_until, may_encrypt_to, read_taken
from shared.archive.age import recipient_fingerprint
from shared.database import postgres_faults
from shared.standing.ticks import Tick, next_runs

SHOWN_RUNS: Final = 10


def show_schedule(context: BackupContext) -> dict[str, Any]:
    """Return the schedule, what it will do, and what became of the last tick."""
    with postgres_faults("reading the schedule"), context.pool.connection() as conn:
        schedule = read_configured(conn, context.store, Schedule)
        taken = read_taken(context, conn)
    runs = [] if schedule.paused else _runs(context, schedule, taken)
    waiting = sorted(map(recipient_fingerprint, schedule.waiting_recipients))
    return schedule.as_json() | {
        "next_runs": [tick.shown(schedule.value.rule.zone) for tick in runs],
        "last_tick": taken.as_json(),
        "waiting_recipients": waiting,
    }


def show_protection(context: BackupContext) -> dict[str, Any]:
    """Return what a loss would cost now, if backups are stale, what runs next and for whom, what waits.

    ``recipients`` are those that scheduled backups are encrypted to, by fingerprint; none: a one-time
    key waits for each.
    """
    with postgres_faults("reading what protects"), context.pool.connection() as conn:
        point, staleness = recovery_point(context, conn), measure(context, conn)
        schedule = read_configured(conn, context.store, Schedule)
    return {
        "recovery_point": point,
        "staleness": staleness,
        "next_run": next(iter(show_schedule(context)["next_runs"]), None),
        "recipients": sorted(map(recipient_fingerprint, may_encrypt_to(schedule))),
        "awaits_confirmation": awaiting(context),
    }


def _runs(context: BackupContext, schedule: Configured[Schedule], taken: Taken) -> list[Tick]:
    now = context.clock.now()
    behind = decided_until(schedule, taken) or now
    seed = seed_of(context)
    return list(islice(next_runs(schedule.value, seed, now, behind), SHOWN_RUNS))
