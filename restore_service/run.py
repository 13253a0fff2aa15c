"""A restore or an undo while it goes: its steps, its appends, and where it may be given up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from restore_service import events as ev
from restore_service.context import RestoreContext
from restore_service.events import Restore
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import Cancelled, ConcurrencyConflict, Interrupted
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

LOOK_S: Final = 0.5
# How often others are told how far it is.
TELL_S: Final = 1.0


class Step(StrEnum):
    """Every step between the command and the last event, as people read it."""

    CHECK = "checking the store"
    LOAD = "checking and loading the archive"
    # The indexes are built meanwhile; the next step is what is left of that.
    COMPARE = "comparing every row"
    INDEXES = "building the indexes"
    CHECK_KEPT = "checking the state that was kept"
    NOTICE = "waiting for the time that was announced"
    GUARD = "waiting for a running backup"
    FENCE = "raising the fence"
    DELIVERY = "waiting for the log to take the fence"
    HOLD = "waiting for the projector to stop at the fence"
    REPLAY = "rolling forward"
    PREPARE = "preparing the cut-over"
    DRAIN = "waiting for older transactions"
    CUT_OVER = "cutting over"
    REOPEN = "waiting for the projector"
    COMPLETE = "completing"


# A step without a point at its beginning cannot be: the tests take the list from here.
STEP_POINTS: Final = {step: CrashPoint(f"restore.step.{step.name.lower()}") for step in Step}


@dataclass
class Run:
    """One restore or undo while it goes."""

    context: RestoreContext
    restore: Restore
    meta: EventMeta
    began: float
    last_look: float = 0.0
    last_told: float | None = None
    told: int = 0

    @property
    def id(self) -> str:
        """Return the restore's id."""
        return self.restore.restore_id

    def look(self) -> None:
        """Go on, or raise Interrupted or Cancelled."""
        if self.context.stop.is_set():
            raise Interrupted("the service stopped during the restore")
        if time.monotonic() - self.last_look < LOOK_S:
            return
        self.last_look = time.monotonic()
        with self.context.transaction("looking for a cancellation") as conn:
            restore = self.context.history.load(conn, self.id)
            if restore.cancel_requested:
                raise Cancelled("the restore was cancelled")
            if restore.ended:
                raise Interrupted("another process took this restore for dead, and ended it")
            self._tell(conn, restore.names)

    def _tell(self, conn: Connection, names: dict[str, str]) -> None:
        """Publish how far it is, in a stream of its own: nothing is decided there."""
        if time.monotonic() - (self.last_told or self.began) < TELL_S:
            return
        data = {"restore_id": self.id} | names | self.context.progress.of(self.id)
        event = NewEvent(ev.PROGRESSED, data, RESTORE_EVENTS)
        self.context.store.append(conn, f"progress-{self.id}", self.told, [event], self.meta)
        self.last_told = time.monotonic()
        self.told += 1

    def step(self, step: Step, total_bytes: int | None = None) -> None:
        """Begin a step that can still be given up."""
        self.look()
        self.enter(step, total_bytes)

    def enter(self, step: Step, total_bytes: int | None = None) -> None:
        """Begin a step, also one behind the decision."""
        STEP_POINTS[step].reach()
        self.context.progress.step(self.id, step, total_bytes)

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        """Show how far the step is, and go on or give up."""
        self.context.progress.advance(self.id, done_bytes, rows)
        self.look()

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
