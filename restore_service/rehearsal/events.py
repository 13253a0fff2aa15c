"""The events of a rehearsal, in a stream of its own, and the fold that gives its state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared.eventstore import StoredEvent
from shared.messages import between

PREFIX = "com.secryn.restore."
REQUESTED = between.REHEARSAL_REQUESTED
CHECKED = between.REHEARSAL_CHECKED
REHEARSED = between.REHEARSED
FAILED = between.REHEARSAL_FAILED
CANCEL_REQUESTED = PREFIX + "rehearsal_cancel_requested.v1"
CANCELLED = between.REHEARSAL_CANCELLED

# Outcomes of one that came to its end: all that was compared is equal, or something is not.
RESTORABLE, DIFFERS = "restorable", "differs"

_STATES = {
    REQUESTED: "requested",
    CHECKED: "running",
    REHEARSED: "rehearsed",
    FAILED: "failed",
    CANCELLED: "cancelled",
}
ENDED = frozenset({"rehearsed", "failed", "cancelled"})


def stream_of(rehearsal_id: object) -> str:
    """Return the name of a rehearsal's stream."""
    return f"rehearsal-{rehearsal_id}"


@dataclass
class Rehearsal:
    """A rehearsal as its events tell it."""

    rehearsal_id: str
    version: int = 0
    state: str = "none"
    cancel_requested: bool = False
    runner: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in ENDED

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {"rehearsal_id": self.rehearsal_id, "state": self.state} | self.facts


def fold_rehearsal(rehearsal_id: object, events: Iterable[StoredEvent]) -> Rehearsal:
    """Return the state of a rehearsal from its stream."""
    rehearsal = Rehearsal(str(rehearsal_id))
    for event in events:
        rehearsal.version = event.version
        rehearsal.state = _STATES.get(event.type, rehearsal.state)
        _apply(rehearsal, event)
    return rehearsal


def _apply(rehearsal: Rehearsal, event: StoredEvent) -> None:
    data, at = event.data, event.occurred_at.isoformat()
    if event.type == REQUESTED:
        rehearsal.runner = data["runner"]
        rehearsal.facts = {name: value for name, value in data.items() if name != "runner"} | {
            "requested_by": event.actor, "requested_at": at,
            "correlation_id": event.correlation_id, "outcome": None, "error": None,
        }  # fmt: skip
    elif event.type == CHECKED:
        rehearsal.facts |= {"checks": data["checks"], "backup_id": data["checks"]["backup_id"]}
    elif event.type == CANCEL_REQUESTED:
        rehearsal.cancel_requested = True
    elif event.type == REHEARSED:
        rehearsal.facts |= data | {"ended_at": at}
    elif event.type in (FAILED, CANCELLED):
        rehearsal.facts |= {"error": data["error"], "ended_at": at}
