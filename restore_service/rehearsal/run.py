"""A rehearsal while it goes: its steps, how long each took, and where it may be given up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from restore_service.context import RestoreContext
from restore_service.rehearsal.events import Rehearsal
from restore_service.run import LOOK_S
from shared.crashpoints import CrashPoint
from shared.errors import Cancelled, ConcurrencyConflict, Interrupted
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


class RehearsalStep(StrEnum):
    """Every step of a rehearsal, as people read it."""

    CHECK = "checking the store"
    LOAD = "checking and loading the archive"
    # The indexes are built meanwhile; the next step is what is left of that.
    COMPARE = "comparing every row"
    INDEXES = "building the indexes"
    REPLAY = "rolling forward"
    COMPARE_END = "comparing the state it rolled forward to"
    PREPARE = "preparing the cut-over that is not made"
    RETRACE = "looking for the way from the empty state"
    FOLD = "folding the log"
    COMPARE_FOLD = "comparing with the log"
    COMPLETE = "completing"


STEP_POINTS: Final = {
    step: CrashPoint(f"rehearsal.step.{step.name.lower()}") for step in RehearsalStep
}
# What a restore does before its fence, and behind it: so long writers are held.
_BEFORE: Final = ("check", "load", "indexes", "compare")
_HELD: Final = ("replay", "prepare")


@dataclass
class RehearsalRun:
    """One rehearsal while it goes; ``durations`` are in seconds, by the steps' names."""

    context: RestoreContext
    rehearsal: Rehearsal
    meta: EventMeta
    durations: dict[str, float] = field(default_factory=dict)
    last_look: float = 0.0
    _timed: tuple[RehearsalStep, float] | None = None

    @property
    def id(self) -> str:
        """Return the rehearsal's id."""
        return self.rehearsal.rehearsal_id

    def look(self) -> None:
        """Go on, or raise Interrupted or Cancelled."""
        if self.context.stop.is_set():
            raise Interrupted("the service stopped during the rehearsal")
        if time.monotonic() - self.last_look < LOOK_S:
            return
        self.last_look = time.monotonic()
        with self.context.transaction("looking for a cancellation") as conn:
            if self.context.rehearsals.load(conn, self.id).cancel_requested:
                raise Cancelled("the rehearsal was cancelled")

    def step(self, step: RehearsalStep, total_bytes: int | None = None) -> None:
        """End the step before and begin this one."""
        self.stop_timing()
        self.look()
        STEP_POINTS[step].reach()
        self.context.progress.step(self.id, step, total_bytes)
        self._timed = step, time.monotonic()

    def stop_timing(self) -> None:
        """Note how long the present step took."""
        if self._timed is not None:
            step, began = self._timed
            self.durations[step.name.lower()] = round(time.monotonic() - began, 3)
            self._timed = None

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        """Show how far the step is, and go on or give up."""
        self.context.progress.advance(self.id, done_bytes, rows)
        self.look()

    def estimate(self) -> dict[str, float]:
        """Return how long a restore would take now, and for how much of that writers wait.

        Others are not in it: a backup that runs, transactions that are older than the restore.
        """
        before_s, held_s = (
            sum(self.durations.get(step, 0.0) for step in steps) for steps in (_BEFORE, _HELD)
        )
        return {"restore_s": round(before_s + held_s, 3), "writers_held_s": round(held_s, 3)}

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Append an event in a transaction of its own. Raises Cancelled."""
        event = NewEvent(kind, {"rehearsal_id": self.id} | data, RESTORE_EVENTS)
        try:
            with self.context.transaction("noting a step") as conn:
                stored = self.context.rehearsals.append(
                    conn, self.id, self.rehearsal.version, [event], self.meta
                )
        except ConcurrencyConflict:
            raise Cancelled("the rehearsal was cancelled") from None
        self.rehearsal.version = stored[-1].version
