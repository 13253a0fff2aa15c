"""Rehearsals by themselves as people see them, and whether the last good one is too long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from restore_service.context import RestoreContext
from restore_service.rehearsal.ticks import (
    Decided,
    Setting,
    decided_until,
    read_decided,
    read_setting,
)
from shared.errors import SecrynError
from shared.standing.ticks import next_runs

SHOWN_RUNS: Final = 10
_NAMED: Final = ("rehearsal_id", "backup_id", "ended_at")


@dataclass(frozen=True)
class Freshness:
    """The last rehearsal that found a backup restorable, and whether that is too long ago."""

    last: dict[str, Any] | None
    stale: bool


def show_schedule(context: RestoreContext) -> dict[str, Any]:
    """Return when rehearsals run, with which identity, and what came of the last one."""
    with context.transaction("reading when rehearsals run") as conn:
        setting, decided = read_setting(conn), read_decided(context, conn)
    freshness = read_freshness(context)
    identity, fault = _identity(context)
    zone = setting.value.rule.zone
    runs = _runs(context, setting, decided) if identity is not None else []
    return {
        "value": setting.value.as_json(),
        "identity": identity,
        "fault": setting.fault or fault,
        "next_runs": [tick.shown(zone) for tick in runs],
        "last_tick": decided.shown,
        "last_restorable": freshness.last,
        "stale": freshness.stale,
    }


def read_freshness(context: RestoreContext) -> Freshness:
    """Return how fresh rehearsals are; where none was good, the time runs from the setting on."""
    with context.transaction("looking for a good rehearsal") as conn:
        setting, last = read_setting(conn), context.rehearsals.last_restorable(conn)
    since = setting.since if last is None else datetime.fromisoformat(last["ended_at"])
    within_s = setting.value.within_s
    late = since is None or context.clock.now() - since > timedelta(seconds=within_s or 0)
    named = None if last is None else {name: last[name] for name in _NAMED}
    return Freshness(named, within_s is not None and late)


def _identity(context: RestoreContext) -> tuple[str | None, str | None]:
    if context.identity is None:
        return None, None
    try:
        return context.identity.fingerprint(), None
    except SecrynError as error:
        return None, error.message


def _runs(context: RestoreContext, setting: Setting, decided: Decided) -> list[Any]:
    now = context.clock.now()
    behind = decided_until(setting, decided) or now
    seed = str(context.settings.place.instance_id)
    return list(islice(next_runs(setting.value, seed, now, behind), SHOWN_RUNS))
