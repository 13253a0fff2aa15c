"""A backup while it is made: its steps, and where it may be given up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from backup_service.context import BackupContext
from backup_service.events import Backup
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import Cancelled, Interrupted
from shared.eventstore import EventMeta

LOOK_S: Final = 0.5


class Step(StrEnum):
    """Every step between the command and the last event, as people read it."""

    STORE = "waiting for the store"
    SNAPSHOT = "opening the snapshot"
    WRITE = "writing the archive"
    PROVE = "proving it: reading it back"
    RECEIPT = "writing the receipt"
    ANNOUNCE = "announcing it"


# A step without a point at its beginning cannot be: the tests take the list from here.
STEP_POINTS: Final = {step: CrashPoint(f"backup.step.{step.name.lower()}") for step in Step}


@dataclass
class Run:
    """One backup while it is made."""

    context: BackupContext
    backup: Backup
    started_at: datetime
    meta: EventMeta
    last_look: float = 0.0

    @property
    def id(self) -> UUID:
        """Return the backup's id."""
        return UUID(self.backup.backup_id)

    def look(self) -> None:
        """Go on, or raise Interrupted or Cancelled."""
        if self.context.stop.is_set():
            raise Interrupted("the service stopped while the backup was made")
        if time.monotonic() - self.last_look < LOOK_S:
            return
        self.last_look = time.monotonic()
        with postgres_faults("looking for a cancellation"), self.context.pool.connection() as conn:
            if self.context.history.load(conn, self.backup.backup_id).cancel_requested:
                raise Cancelled("the backup was cancelled")

    def step(self, step: Step, total_bytes: int | None = None) -> None:
        """Begin a step."""
        self.look()
        STEP_POINTS[step].reach()
        self.context.progress.step(self.backup.backup_id, step, total_bytes)

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        """Show how far the step is, and go on or give up."""
        self.look()
        self.context.progress.advance(self.backup.backup_id, done_bytes, rows)
