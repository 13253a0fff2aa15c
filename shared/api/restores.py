"""The documents of restore_service."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from shared.api.common import Fault, Id, Running, Sha256, Time

Counts = dict[str, int]


class Recipient(TypedDict):
    """The age recipient to seal a key to now, and until when (Unix seconds) that is opened."""

    recipient: str
    expires_at: int


class Upload(TypedDict):
    """How far an upload is; with ``size_bytes`` and ``sha256`` when it is complete."""

    upload_id: Id
    offset_bytes: int
    complete: bool
    sha256: NotRequired[Sha256]
    size_bytes: NotRequired[int]


class Space(TypedDict):
    """What the present state takes, for how long an undo keeps it, and what is free.

    ``expected_bytes`` were asked for before anything was loaded: what the receipt tells, or, of a
    file without one, what it has at least (``object_size``).
    """

    kept_bytes: int | None
    kept_s: float
    free_bytes: int | None
    expected_bytes: NotRequired[int]
    expected_by: NotRequired[Literal["receipt", "object_size"]]
    needed_bytes: NotRequired[int]


class RollForwardGoal(TypedDict):
    """Up to which offset, over how many of them."""

    to: int
    offsets: int


class Checks(TypedDict):
    """What the archive was found to be."""

    backup_id: Id
    source_instance_id: Id
    source_environment: str
    source_epoch: int
    offset: int
    created_at: Time
    schema_version: int
    digest: Sha256
    rows: int
    sha256: Sha256
    size_bytes: int
    signer: str
    trusted_by: str
    cluster_id: str
    topic_id: str
    space: NotRequired[Space]
    roll_forward: NotRequired[RollForwardGoal]


class Coded(TypedDict):
    """A code and what it means here."""

    code: str
    message: str


class KeptState(TypedDict):
    """The state that an undo puts back: all that this log held before ``offset``.

    It is that at the fence of the undone restore, or earlier, and then ``left_out`` says why.
    """

    cluster_id: str | None
    topic_id: str | None
    offset: int
    fence_offset: int
    left_out: Coded | None


class UndoChecks(TypedDict):
    """What an undo puts back."""

    undo_of: Id
    backup_id: Id
    kept: NotRequired[KeptState]
    in_window: NotRequired[bool]


class RolledForward(TypedDict):
    """What was applied behind the backup, and what that gave."""

    to: int
    applied: int
    rejected: NotRequired[int]
    skipped: NotRequired[Counts]
    offsets: NotRequired[int]
    digest: NotRequired[Sha256]
    tables: NotRequired[Counts]


class Proof(TypedDict):
    """The state that was loaded: its digest, rows a table, and that it is the backup's.

    ``compared_by``: ``digest`` where its rows were compared with the manifest; ``order`` where the
    receipt says that those of this very file were, and all came out as they stand in it.
    """

    digest: NotRequired[Sha256]
    tables: NotRequired[Counts]
    equal: NotRequired[bool]
    compared_by: NotRequired[Literal["digest", "order"]]
    roll_forward: NotRequired[RolledForward]


class Named(TypedDict):
    """How many things of one kind, and the first of them with ids and names."""

    count: int
    named: list[dict[str, str | None]]


class VoidedEvent(TypedDict):
    """An event behind a fence: everything but its body."""

    offset: int
    id: str
    kind: str
    actor: str
    epoch: int | None
    time: Time


class ListedVoidedEvent(VoidedEvent):
    """The same, and as what it was appended again."""

    reapplied_as: Id | None


class Voided(TypedDict):
    """What a restore made void, counted; the first are listed, but not in a list of restores."""

    total: int
    by_kind: Counts
    by_actor: Counts
    events: NotRequired[list[VoidedEvent]]


class VoidedPage(TypedDict):
    """A page of what a restore made void; ``next_after`` begins the next one."""

    restore_id: Id
    fence_offset: int
    restored_offset: int
    events: list[ListedVoidedEvent]
    next_after: int | None


class Reapplied(TypedDict):
    """What became of one event that was to be appended again."""

    offset: int
    kind: str
    event_id: Id
    new_offset: int | None
    state: Literal["pending", "applied", "rejected"]
    reason: str | None
    appended: bool


class ReappliedEvents(TypedDict):
    """What became of each of them."""

    restore_id: Id
    epoch: int
    events: list[Reapplied]


class StrayState(TypedDict):
    """A state that is kept of a restore which the history does not know; its size is about that."""

    restore_id: Id
    kept_as: str
    size_bytes: int


class StrayStates(TypedDict):
    """All of them."""

    states: list[StrayState]


class Notice(TypedDict):
    """What the users of the platform were told, and when it begins."""

    text: str
    planned_at: Time


class GlassBroken(TypedDict):
    """Who did without an approval, and why."""

    by: str
    reason: str


RestoreState = Literal[
    "awaiting_approval", "approved", "requested", "running",
    "restored", "aborted", "failed", "cancelled", "expired",
]  # fmt: skip


class Restore(Running):
    """One restore, or one undo, as its events tell it."""

    restore_id: Id
    state: RestoreState
    kind: Literal["restore", "undo"]
    command_id: Id
    target_instance_id: Id
    backup_id: Id | None
    upload_id: Id | None
    reason: str
    requested_by: str
    requested_at: Time
    correlation_id: str
    undo_of: Id | None
    key_fingerprint: str | None
    epoch: int | None
    error: Fault | None
    approved_by: str | None
    glass_broken: GlassBroken | None
    revoked: dict[str, Named] | None
    voided: Voided | None
    # The code of why it can never be counted.
    voided_fault: NotRequired[str | None]
    roll_forward: NotRequired[str | None]
    outside_window: NotRequired[str | None]
    # Of one that waits for another person:
    asked: NotRequired[dict[str, Any]]
    upload_sha256: NotRequired[Sha256 | None]
    approvers: NotRequired[list[str]]
    expires_at: NotRequired[Time | None]
    started_by: NotRequired[str]
    # As it goes on:
    notice: NotRequired[Notice]
    checks: NotRequired[Checks | UndoChecks]
    proof: NotRequired[Proof]
    # Once it has cut over:
    backup_offset: NotRequired[int]
    fence_offset: NotRequired[int]
    sessions_ended: NotRequired[int]
    kept_as: NotRequired[str | None]
    undone_by: NotRequired[Id]
    kept: NotRequired[KeptState]
    duration_s: NotRequired[float | None]
    ended_at: NotRequired[Time]


class RestorePage(TypedDict):
    """Restores and undos, the newest first; ``next_before`` begins the next page."""

    restores: list[Restore]
    next_before: int | None


class Differing(TypedDict):
    """A table that is not the same, with the rows of both."""

    table: str
    rows: int
    expected_rows: int


class Equivalence(TypedDict):
    """Whether the log, folded, gives the backup's state; null with a reason if it cannot tell."""

    equivalent: bool | None
    reason: Coded | None
    digest: NotRequired[Sha256]
    applied: NotRequired[int]
    rejected: NotRequired[int]
    skipped: NotRequired[Counts]
    differing: NotRequired[list[Differing]]


class RehearsedForward(RolledForward):
    """What a rehearsal found at the end of its roll-forward."""

    expected_digest: NotRequired[Sha256 | None]
    equal: NotRequired[bool | None]
    backup_id: NotRequired[Id]
    differing: NotRequired[list[Differing]]


class RehearsalProof(TypedDict):
    """What was compared in a rehearsal."""

    digest: Sha256
    tables: Counts
    equal: bool
    roll_forward: RehearsedForward | None
    equivalent: bool | None
    equivalence: Equivalence | None


class Estimated(TypedDict):
    """How long a restore would take, and for how much of that writers would wait."""

    restore_s: float
    writers_held_s: float


class Rehearsal(Running):
    """One rehearsal, as its events tell it."""

    rehearsal_id: Id
    state: Literal["requested", "running", "rehearsed", "failed", "cancelled"]
    command_id: Id
    target_instance_id: Id
    backup_id: Id | None
    upload_id: Id | None
    next_backup_id: Id | None
    roll_forward: str | None
    fold_log: bool
    reason: str
    key_fingerprint: str
    requested_by: str
    requested_at: Time
    correlation_id: str
    outcome: Literal["restorable", "differs"] | None
    error: Fault | None
    checks: NotRequired[Checks]
    sha256: NotRequired[Sha256]
    offset: NotRequired[int]
    size_bytes: NotRequired[int]
    rows: NotRequired[int]
    proof: NotRequired[RehearsalProof]
    durations: NotRequired[dict[str, float]]
    duration_s: NotRequired[float]
    estimate: NotRequired[Estimated]
    obstacles: NotRequired[list[Coded]]
    ended_at: NotRequired[Time]


class RehearsalRun(TypedDict):
    """A run of the schedule: what the rule names, when it is due, and that in its zone."""

    tick: Time
    due_at: Time
    local: Time


class RehearsalTick(TypedDict):
    """What became of the last run: a rehearsal, or why none."""

    tick: Time
    rehearsal_id: Id | None
    attempt: int
    error: Fault | None


class LastRestorable(TypedDict):
    """The last rehearsal that found a backup restorable."""

    rehearsal_id: Id
    backup_id: Id
    ended_at: Time


class RehearsalSchedule(TypedDict):
    """When rehearsals run by themselves.

    ``identity`` is the fingerprint of the recipient whose identity this place has; ``fault`` says
    why the setting or the identity cannot be read. ``stale``: none found a backup restorable within
    the set time.
    """

    value: dict[str, Any]
    identity: str | None
    fault: str | None
    next_runs: list[RehearsalRun]
    last_tick: RehearsalTick | None
    last_restorable: LastRestorable | None
    stale: bool


class RehearsalPage(TypedDict):
    """Rehearsals, the newest first; ``next_before`` begins the next page."""

    rehearsals: list[Rehearsal]
    next_before: int | None


class UndoneEvents(TypedDict):
    """What a restore would undo on the log; not ``counted`` with a reason if that cannot be said."""

    counted: bool
    reason: Coded | None
    to: int | None
    total: int | None
    log_end: NotRequired[int]
    by_kind: NotRequired[Counts]
    by_actor: NotRequired[Counts]
    stretches: NotRequired[list[list[int]]]
    newest: list[dict[str, Any]]


class ComparedAccess(TypedDict):
    """The access that would come back and that would go, against the instance as it is.

    ``as_of_offset`` is where the roll-forward ends; without one, the backup's offset.
    """

    as_of_offset: int
    returning: dict[str, Named]
    vanishing: dict[str, Named]


class Preview(Running):
    """What a restore would undo, and whose access it would bring back."""

    preview_id: Id
    state: Literal["requested", "running", "previewed", "failed"]
    backup_id: Id | None
    roll_forward: str | None
    error: Fault | None
    archive: NotRequired[Checks]
    offset: NotRequired[int]
    events: NotRequired[UndoneEvents]
    access: NotRequired[ComparedAccess]


class PolicyChange(TypedDict):
    """A change of the policy that waits for another person."""

    change_id: Id
    command_id: Id
    required: bool
    requested_by: str
    requested_at: Time
    reason: str
    expires_at: Time


class ApprovalPolicy(TypedDict):
    """Whether restores need another person's approval, who may approve, and what waits."""

    required: bool
    changed_by: str | None
    approved_by: str | None
    changed_at: Time | None
    reason: str | None
    pending: PolicyChange | None
    approvers: list[str]
