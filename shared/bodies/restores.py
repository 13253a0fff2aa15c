"""What restore_service says of restores and undos, of their approval, and of sealed keys."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NotRequired

from typing_extensions import TypedDict

from shared.api.common import Fault, Id, Progress, Sha256, Time
from shared.api.restores import (
    Checks,
    GlassBroken,
    KeptState,
    Named,
    Notice,
    Proof,
    UndoChecks,
    Voided,
)
from shared.bodies.base import Body
from shared.messages import between

PREFIX = "com.secryn.restore."


class OfRestore(Body):
    """Something that happened to one restore, or undo.

    Of one that was approved each event names both persons.
    """

    restore_id: Id
    requested_by: str | None = None
    approved_by: str | None = None


class RestoreRequested(OfRestore):
    """A restore or an undo was asked for; with ``expires_at`` it waits for another person."""

    TYPE: ClassVar[str] = between.RESTORE_REQUESTED
    kind: Literal["restore", "undo"]
    command_id: Id
    target_instance_id: Id
    backup_id: Id | None
    upload_id: Id | None
    reason: str
    key_fingerprint: str | None
    receipt_sha256: Sha256 | None
    runner: str | None
    # Of a restore:
    roll_forward: str | None = None
    outside_window: str | None = None
    running_backup: Literal["wait", "cancel"] | None = None
    revoke_returning: bool | None = None
    # Of an undo:
    undo_of: Id | None = None
    # Of one that waits:
    expires_at: Time | None = None
    approvers: list[str] | None = None
    asked: dict[str, Any] | None = None
    upload_sha256: Sha256 | None = None


class RestoreChecked(OfRestore):
    """The archive is what it must be; or what an undo puts back is there."""

    TYPE: ClassVar[str] = between.RESTORE_CHECKED
    checks: Checks | UndoChecks


class RestoreLoaded(OfRestore):
    """The state lies beside the instance, and was compared with the backup's."""

    TYPE: ClassVar[str] = PREFIX + "loaded.v1"
    proof: Proof


class RestoreProgressed(OfRestore):
    """How far it is, about once a second."""

    TYPE: ClassVar[str] = PREFIX + "progressed.v1"
    step: str | None = None
    progress: Progress | None = None
    elapsed_s: float | None = None


class CutOver(TypedDict):
    """What was put in the instance's place, and as what it is kept that was there."""

    epoch: int
    fence_offset: int
    sessions_ended: int
    kept_as: str
    backup_offset: NotRequired[int]
    revoked: NotRequired[dict[str, Named | int] | None]


class RestoreCutOver(OfRestore):
    """The decision: readers see the new state from here on."""

    TYPE: ClassVar[str] = PREFIX + "cut_over.v1"
    outcome: CutOver


class RestoreCompleted(OfRestore):
    """The instance takes writes again."""

    TYPE: ClassVar[str] = between.RESTORE_COMPLETED
    duration_s: float | None
    epoch: int
    proof: Proof | None
    voided: Voided | None
    source_instance_id: Id | None
    undo_of: Id | None
    backup_id: Id | None
    undo_window_s: int


class RestoreGivenUp(OfRestore):
    """It was given up behind the fence: the instance is as it was."""

    TYPE: ClassVar[str] = between.RESTORE_ABORTED
    error: Fault


class RestoreFailed(OfRestore):
    """It did not come as far as the fence: nothing was touched."""

    TYPE: ClassVar[str] = between.RESTORE_FAILED
    error: Fault


class RestoreCancelRequested(OfRestore):
    """Somebody asked for it to be given up."""

    TYPE: ClassVar[str] = PREFIX + "cancel_requested.v1"


class RestoreCancelled(OfRestore):
    """It was given up: the instance is as it was."""

    TYPE: ClassVar[str] = between.RESTORE_CANCELLED
    error: Fault


class RestoreExpired(OfRestore):
    """It was not approved, or not begun, in time."""

    TYPE: ClassVar[str] = between.RESTORE_EXPIRED
    error: Fault


class RestoreCommandRejected(Body):
    """A signed command was understood, and refused."""

    TYPE: ClassVar[str] = PREFIX + "rejected.v1"
    command_id: Id
    code: str
    message: str
    hint: str | None


class NoticeGiven(OfRestore):
    """The users of the platform are told that the instance will be replaced, and when."""

    TYPE: ClassVar[str] = PREFIX + "notice_given.v1"
    notice: Notice


class NoticeOver(OfRestore):
    """What they were told of is over."""

    TYPE: ClassVar[str] = PREFIX + "notice_over.v1"
    outcome: Literal["restored", "unchanged"]


class RestoreUndone(OfRestore):
    """Its undo put back what it had replaced."""

    TYPE: ClassVar[str] = PREFIX + "undone.v1"
    undone_by: Id


class RestoreKeptShort(OfRestore):
    """What it keeps could not be brought up to its fence: an undo puts back that much."""

    TYPE: ClassVar[str] = PREFIX + "kept_short.v1"
    kept: KeptState


class RestoreVoidedCounted(OfRestore):
    """What it made void, where that could not be told when it ended; or the code of why it cannot."""

    TYPE: ClassVar[str] = PREFIX + "voided_counted.v1"
    voided: Voided | None
    voided_fault: str | None


class PreviousDropped(OfRestore):
    """What it replaced is no longer kept."""

    TYPE: ClassVar[str] = PREFIX + "previous_dropped.v1"


class StrayDropped(Body):
    """A person dropped what a restore kept that the history does not know."""

    TYPE: ClassVar[str] = PREFIX + "stray_dropped.v1"
    restore_id: Id
    kept_as: str
    size_bytes: int
    reason: str
    dropped_by: str


class RestoreApproved(OfRestore):
    """Another person approved it; it waits for its start."""

    TYPE: ClassVar[str] = between.RESTORE_APPROVED
    command_id: Id
    expires_at: Time


class RestoreStartRequested(OfRestore):
    """What was approved is to begin: the key was given again."""

    TYPE: ClassVar[str] = PREFIX + "start_requested.v1"
    command_id: Id
    started_by: str
    receipt_sha256: Sha256 | None
    runner: str
    expires_at: None


class RestoreGlassBroken(OfRestore):
    """The local operator did without the approval."""

    TYPE: ClassVar[str] = PREFIX + "glass_broken.v1"
    glass_broken: GlassBroken


class ApprovalPolicyChanged(Body):
    """Whether a second person must approve restores, from now on."""

    TYPE: ClassVar[str] = between.APPROVAL_POLICY_CHANGED
    required: bool
    changed_by: str
    approved_by: str | None
    command_id: Id
    reason: str
    change_id: Id | None = None


class ApprovalPolicyChangeRequested(Body):
    """Somebody asked for that to be switched off; another person approves it."""

    TYPE: ClassVar[str] = PREFIX + "approval_policy_change_requested.v1"
    change_id: Id
    command_id: Id
    required: bool
    requested_by: str
    reason: str
    expires_at: Time


class RecipientPublished(Body):
    """The age recipient to seal a key to, and until when (Unix seconds) that is opened."""

    TYPE: ClassVar[str] = PREFIX + "recipient_published.v1"
    recipient: str
    expires_at: int
