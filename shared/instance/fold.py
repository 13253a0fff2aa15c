"""The fold: the one place where events become rows.

A pure function of a batch and of the rows it refers to: no clock, no randomness, no database.
The projector, a roll-forward and a rehearsal all go through here. An event that contradicts
the state changes nothing but the table ``rejections``.

The rules stand in ``rules/``. In short: a container (project, vault) is deleted by a mark and
keeps its name; what lies in it stays, and nothing can be written into it. Users, roles, bindings,
settings and purged secrets are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared.instance.events import ANNOUNCED_EVENTS
from shared.instance.rules import access, containers, items, keyring
from shared.instance.rules.base import RULES, Contradiction, LoggedEvent
from shared.instance.workingset import Needs, Row, WorkingSet

__all__ = ["RULE_MODULES", "BatchResult", "LoggedEvent", "fold", "needs_of"]

# Importing a module registers its rules; naming them here keeps that visible.
RULE_MODULES = (access, containers, items, keyring)


@dataclass
class BatchResult:
    """What became of a batch."""

    applied: int = 0
    rejected: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def needs_of(batch: Iterable[LoggedEvent]) -> Needs:
    """Return the keys and names that ``batch`` refers to."""
    needs = Needs()
    for logged in batch:
        entry = RULES.get(type(logged.event))
        if entry is not None:
            entry[0](logged.event, needs)
    return needs


def fold(working: WorkingSet, batch: Sequence[LoggedEvent], epoch: int) -> BatchResult:
    """Apply ``batch`` in order to ``working``; events of another epoch are skipped and counted.

    Restores and log adoptions are not state: whoever follows the log handles them before it comes here.
    """
    result = BatchResult()
    for logged in batch:
        if isinstance(logged.event, ANNOUNCED_EVENTS):
            continue
        if logged.epoch != epoch:
            result.skipped["epoch"] += 1
            continue
        try:
            RULES[type(logged.event)][1](working, logged.event, logged)
            result.applied += 1
        except Contradiction as contradiction:
            result.rejected += 1
            working.put("rejections", _rejection(logged, contradiction))
    return result


def _rejection(logged: LoggedEvent, contradiction: Contradiction) -> Row:
    return {
        "event_offset": logged.offset,
        "event_id": logged.event_id,
        "event_type": logged.type,
        "code": contradiction.code,
        "detail": str(contradiction),
        "event_time": logged.time,
        "actor": logged.actor,
    }
