"""What restore_service says of rehearsals, and of when they run by themselves."""

from __future__ import annotations

from typing import ClassVar, Literal

from shared.api.common import Fault, Id, Sha256, Time
from shared.api.restores import Checks, Coded, Estimated, RehearsalProof
from shared.bodies.base import Body
from shared.messages import between

PREFIX = "com.secryn.restore."


class OfRehearsal(Body):
    """Something that happened to one rehearsal."""

    rehearsal_id: Id


class RehearsalRequested(OfRehearsal):
    """A rehearsal was asked for."""

    TYPE: ClassVar[str] = between.REHEARSAL_REQUESTED
    command_id: Id
    target_instance_id: Id
    backup_id: Id | None
    upload_id: Id | None
    next_backup_id: Id | None
    roll_forward: str | None
    fold_log: bool
    reason: str
    key_fingerprint: str
    runner: str


class RehearsalChecked(OfRehearsal):
    """The archive is what it must be."""

    TYPE: ClassVar[str] = between.REHEARSAL_CHECKED
    checks: Checks


class Rehearsed(OfRehearsal):
    """What was compared, and found equal or not."""

    TYPE: ClassVar[str] = between.REHEARSED
    backup_id: Id
    sha256: Sha256
    offset: int
    size_bytes: int
    rows: int
    outcome: Literal["restorable", "differs"]
    proof: RehearsalProof
    durations: dict[str, float]
    duration_s: float
    estimate: Estimated
    obstacles: list[Coded]


class _Ended(OfRehearsal):
    """``backup_id`` is null for a file that somebody brought."""

    error: Fault
    backup_id: Id | None


class RehearsalFailed(_Ended):
    """It did not come to its end."""

    TYPE: ClassVar[str] = between.REHEARSAL_FAILED


class RehearsalCancelRequested(OfRehearsal):
    """Somebody asked for it to be given up."""

    TYPE: ClassVar[str] = PREFIX + "rehearsal_cancel_requested.v1"


class RehearsalCancelled(_Ended):
    """It was given up."""

    TYPE: ClassVar[str] = between.REHEARSAL_CANCELLED


class _OfSchedule(Body):
    """A decision about the rehearsals by themselves; every run up to ``behind`` was decided.

    ``era`` counts how often the clock was set back, ``setting`` tells settings apart.
    """

    behind: Time
    era: int
    setting: Sha256


class RehearsalTickTaken(_OfSchedule):
    """A run began a rehearsal; ``missed`` counts those before it that nobody took."""

    TYPE: ClassVar[str] = PREFIX + "rehearsal_tick_taken.v1"
    tick: Time
    due_at: Time
    missed: int
    attempt: int
    rehearsal_id: Id
    backup_id: Id


class RehearsalTickRetried(_OfSchedule):
    """A run that failed by what passes was begun again."""

    TYPE: ClassVar[str] = PREFIX + "rehearsal_tick_retried.v1"
    tick: Time
    attempt: int
    rehearsal_id: Id
    backup_id: Id
    failed_rehearsal_id: Id
    code: str


class RehearsalSkipped(_OfSchedule):
    """A run came to nothing, and why; a first try says when it was due, a later one what failed."""

    TYPE: ClassVar[str] = between.REHEARSAL_SKIPPED
    tick: Time
    attempt: int
    rehearsal_id: None
    reason: str
    error: Fault
    due_at: Time | None = None
    missed: int | None = None
    failed_rehearsal_id: Id | None = None
    code: str | None = None


class RehearsalScheduleRebased(_OfSchedule):
    """The clock was set back: runs are counted from there."""

    TYPE: ClassVar[str] = PREFIX + "rehearsal_schedule_rebased.v1"
    was_behind: Time
