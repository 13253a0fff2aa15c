"""The events of restore_service: types, and the fold that gives a restore's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from shared.eventstore import StoredEvent
from shared.instance.events import RestoreAborted, Restored, RestoreStarted
from shared.messages import between

PREFIX = "com.secryn.restore."
REQUESTED = between.RESTORE_REQUESTED
CHECKED = between.RESTORE_CHECKED
LOADED = PREFIX + "loaded.v1"
# How far it is: step, bytes, rows, and an estimate of what is left of the step. Once a second.
PROGRESSED = PREFIX + "progressed.v1"
CUT_OVER = PREFIX + "cut_over.v1"
COMPLETED = between.RESTORE_COMPLETED
ABORTED = between.RESTORE_ABORTED
FAILED = between.RESTORE_FAILED
CANCEL_REQUESTED = PREFIX + "cancel_requested.v1"
CANCELLED = between.RESTORE_CANCELLED
REJECTED = PREFIX + "rejected.v1"
NOTICE_GIVEN = PREFIX + "notice_given.v1"
NOTICE_OVER = PREFIX + "notice_over.v1"
UNDONE = PREFIX + "undone.v1"
KEPT_SHORT = PREFIX + "kept_short.v1"
STRAY_DROPPED = PREFIX + "stray_dropped.v1"
VOIDED_COUNTED = PREFIX + "voided_counted.v1"
PREVIOUS_DROPPED = PREFIX + "previous_dropped.v1"
APPROVED = between.RESTORE_APPROVED
START_REQUESTED = PREFIX + "start_requested.v1"
EXPIRED = between.RESTORE_EXPIRED
GLASS_BROKEN = PREFIX + "glass_broken.v1"
POLICY_CHANGED = between.APPROVAL_POLICY_CHANGED
POLICY_CHANGE_REQUESTED = PREFIX + "approval_policy_change_requested.v1"
RECIPIENT_PUBLISHED = PREFIX + "recipient_published.v1"

_STATES = {
    REQUESTED: "requested",
    CHECKED: "running",
    RestoreStarted.TYPE: "running",
    LOADED: "running",
    CUT_OVER: "running",
    COMPLETED: "restored",
    ABORTED: "aborted",
    FAILED: "failed",
    CANCELLED: "cancelled",
    APPROVED: "approved",
    START_REQUESTED: "requested",
    EXPIRED: "expired",
}
# Of these events the named fields are shown with the restore.
_SHOWN = {
    LOADED: ("proof",),
    NOTICE_GIVEN: ("notice",),
    UNDONE: ("undone_by",),
    KEPT_SHORT: ("kept",),
    COMPLETED: ("duration_s", "voided"),
    VOIDED_COUNTED: ("voided", "voided_fault"),
    ABORTED: ("error",),
    FAILED: ("error",),
    CANCELLED: ("error",),
    EXPIRED: ("error",),
    APPROVED: ("approved_by", "expires_at"),
    START_REQUESTED: ("started_by", "expires_at"),
    GLASS_BROKEN: ("glass_broken",),
}
# What a request says to the service alone.
_KEPT = frozenset({"runner", "receipt_sha256"})
_ENDS = frozenset({COMPLETED, ABORTED, FAILED, CANCELLED, EXPIRED})
ENDED = frozenset({"restored", "aborted", "failed", "cancelled", "expired"})
AWAITING_APPROVAL = "awaiting_approval"
# Asked for, and of no concern to anybody else until it is started.
WAITING = frozenset({AWAITING_APPROVAL, "approved"})


def stream_of(restore_id: object) -> str:
    """Return the name of a restore's stream."""
    return f"restore-{restore_id}"


@dataclass
class Restore:
    """A restore as its events tell it."""

    restore_id: str
    version: int = 0
    state: str = "none"
    cancel_requested: bool = False
    fence_no: int | None = None
    cut_over: bool = False
    closed: bool = False
    runner: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in ENDED

    @property
    def waiting(self) -> bool:
        """Tell whether it waits for an approval, or for its start behind one."""
        return self.state in WAITING

    @property
    def names(self) -> dict[str, str]:
        """Return who asked and who approved, once somebody has; nothing where nobody had to."""
        if self.facts.get("approved_by") is None:
            return {}
        return {name: self.facts[name] for name in ("requested_by", "approved_by")}

    @property
    def fence_open(self) -> bool:
        """Tell whether a fence was raised that no event of the stream closes."""
        return self.fence_no is not None and not self.closed

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {"restore_id": self.restore_id, "state": self.state} | self.facts


def fold_restore(restore_id: object, events: Iterable[StoredEvent]) -> Restore:
    """Return the state of a restore from its stream."""
    restore = Restore(str(restore_id))
    for event in events:
        restore.version = event.version
        restore.state = _STATES.get(event.type, restore.state)
        _apply(restore, event)
    return restore


def _apply(restore: Restore, event: StoredEvent) -> None:
    if event.type == REQUESTED:
        restore.runner = event.data["runner"] or ""
        if event.data.get("expires_at") is not None:
            restore.state = AWAITING_APPROVAL
    elif event.type == START_REQUESTED:
        restore.runner = event.data["runner"]
    elif event.type == RestoreStarted.TYPE:
        restore.fence_no = event.data["fence_no"]
    elif event.type == CUT_OVER:
        restore.cut_over = True
    elif event.type in (Restored.TYPE, RestoreAborted.TYPE):
        restore.closed = True
    elif event.type == CANCEL_REQUESTED:
        restore.cancel_requested = True
    restore.facts |= _facts_of(event)


def _facts_of(event: StoredEvent) -> dict[str, Any]:
    """Return what an event adds to what is shown of its restore."""
    data, at = event.data, event.occurred_at.isoformat()
    if event.type == REQUESTED:
        shown = {name: value for name, value in data.items() if name not in _KEPT}
        nothing_yet = {"undo_of": None, "approved_by": None, "glass_broken": None}
        return {"kind": "restore"} | nothing_yet | shown | {
            "requested_by": event.actor, "requested_at": at,
            "correlation_id": event.correlation_id, "epoch": None, "error": None,
            "revoked": None, "voided": None,
        }  # fmt: skip
    if event.type == CHECKED:
        return {"checks": data["checks"], "backup_id": data["checks"]["backup_id"]}
    if event.type == CUT_OVER:
        return dict(data["outcome"])
    facts = {name: data[name] for name in _SHOWN.get(event.type, ())}
    if event.type in (UNDONE, PREVIOUS_DROPPED):
        # What it replaced is the instance again, or gone.
        facts["kept_as"] = None
    return facts | ({"ended_at": at} if event.type in _ENDS else {})
