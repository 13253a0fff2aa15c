"""What each event says of an operation: one operation is one line of the list, while it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from backup_service import events as ev
from shared.eventstore import StoredEvent
from shared.messages import between


class Kind(StrEnum):
    """What was done."""

    BACKUP = "backup"
    ADOPTION = "adoption"
    KEY_VIEW = "key_view"
    KEY_EXPIRY = "key_expiry"
    VERIFICATION = "verification"
    HOLD = "hold"
    RELEASE = "release"
    PURGE = "purge"
    RETENTION = "retention"
    STORAGE_CHECK = "storage_check"
    LOG_ADOPTION = "log_adoption"
    EVENT_SKIP = "event_skip"
    RESTORE = "restore"
    UNDO = "undo"
    REHEARSAL = "rehearsal"
    CONFIGURATION = "configuration"


class Outcome(StrEnum):
    """How far it is, or how it ended."""

    REQUESTED = "requested"
    APPROVED = "approved"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.CANCELLED})


@dataclass(frozen=True)
class Change:
    """What one event makes of one operation. ``kind`` is None where the event does not say."""

    operation_id: str
    kind: Kind | None
    subject_type: str
    subject: str
    outcome: Outcome
    actor: str
    at: datetime
    reason: str | None = None
    code: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


Fold = Callable[[StoredEvent], Change]


def change_of(event: StoredEvent) -> Change | None:
    """Return what ``event`` says of an operation, or None when it says nothing of one."""
    fold = _FOLDS.get(event.type)
    return None if fold is None else fold(event)


def _of_backup(kind: Kind, outcome: Outcome) -> Fold:
    """One operation from several events of a backup's stream."""

    def fold(event: StoredEvent) -> Change:
        backup_id = _named(event)
        return Change(
            f"{kind}-{backup_id}", kind, "backup", backup_id, outcome, event.actor,
            event.occurred_at, event.data.get("reason"), _code(event.data), _shown(event.data),
        )  # fmt: skip

    return fold


def _at_once(
    kind: Kind,
    subject_type: str = "backup",
    outcome: Callable[[Mapping[str, Any]], tuple[Outcome, str | None]] = (
        lambda data: (Outcome.SUCCEEDED, None)
    ),
) -> Fold:
    """An operation of one event."""

    def fold(event: StoredEvent) -> Change:
        ended, code = outcome(event.data)
        return Change(
            str(event.event_id), kind, subject_type, _named(event), ended, event.actor,
            event.occurred_at, event.data.get("reason"), code, _shown(event.data),
        )  # fmt: skip

    return fold


def _verified(data: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    found = data["outcome"]
    receipt = found.get("receipt") or {"intact": True, "code": None}
    whole = found["intact"] and receipt["intact"]
    code = found.get("code") or receipt["code"]
    return (Outcome.SUCCEEDED if whole else Outcome.FAILED), code


def _checked(data: Mapping[str, Any]) -> tuple[Outcome, str | None]:
    return (Outcome.SUCCEEDED if data["clean"] else Outcome.FAILED), None


def _noted(event: StoredEvent) -> Change:
    """What restore_service told; the event that notes it names its stream and its facts."""
    told, data = event.data, event.data["facts"]
    outcome = _OF_RESTORES[told["type"]]
    kind_of, _, subject = str(told["subject"]).partition("-")
    if told["type"] == between.APPROVAL_POLICY_CHANGED:
        kind: Kind | None = Kind.CONFIGURATION
        identity, subject_type, subject = str(event.event_id), "setting", "approval"
    elif told["type"] == between.REHEARSAL_SKIPPED:
        kind, identity = Kind.REHEARSAL, str(event.event_id)
        subject_type, subject = "setting", "rehearsal"
    elif kind_of == "rehearsal":
        kind, identity, subject_type = Kind.REHEARSAL, str(told["subject"]), "rehearsal"
        if data.get("outcome") == "differs":
            outcome = Outcome.FAILED
    else:
        identity, subject_type = str(told["subject"]), "restore"
        # Only the request says which of the two it is.
        asked = told["type"] == between.RESTORE_REQUESTED
        kind = (Kind.UNDO if data.get("undo_of") else Kind.RESTORE) if asked else None
    return Change(
        identity, kind, subject_type, subject, outcome, told["actor"],
        datetime.fromisoformat(told["time"]), data.get("reason"), _code(data), _shown(data),
    )  # fmt: skip


def _named(event: StoredEvent) -> str:
    return event.stream.partition("-")[2] or event.stream


def _code(data: Mapping[str, Any]) -> str | None:
    fault = data.get("error")
    return str(fault["code"]) if isinstance(fault, Mapping) and "code" in fault else None


def _shown(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few facts that a line of the list has room for."""
    return {name: data[name] for name in _DETAILS if data.get(name) is not None}


_DETAILS: Final = (
    "backup_id", "offset", "size_bytes", "undo_of", "epoch", "approved_by", "outcome", "required",
    "expires_at",
)  # fmt: skip
_OF_RESTORES: Final = {
    between.RESTORE_REQUESTED: Outcome.REQUESTED,
    between.RESTORE_APPROVED: Outcome.APPROVED,
    between.RESTORE_CHECKED: Outcome.RUNNING,
    between.RESTORE_COMPLETED: Outcome.SUCCEEDED,
    between.RESTORE_ABORTED: Outcome.FAILED,
    between.RESTORE_FAILED: Outcome.FAILED,
    between.RESTORE_EXPIRED: Outcome.FAILED,
    between.RESTORE_CANCELLED: Outcome.CANCELLED,
    between.REHEARSAL_REQUESTED: Outcome.REQUESTED,
    between.REHEARSAL_CHECKED: Outcome.RUNNING,
    between.REHEARSED: Outcome.SUCCEEDED,
    between.REHEARSAL_FAILED: Outcome.FAILED,
    between.REHEARSAL_CANCELLED: Outcome.CANCELLED,
    between.REHEARSAL_SKIPPED: Outcome.CANCELLED,
    between.APPROVAL_POLICY_CHANGED: Outcome.SUCCEEDED,
}
# What is followed of restore_service, and noted here.
FOLLOWED: Final = tuple(_OF_RESTORES)
# An event that is to be seen in the list has its line here.
_FOLDS: Final[dict[str, Fold]] = {
    ev.REQUESTED: _of_backup(Kind.BACKUP, Outcome.REQUESTED),
    ev.STARTED: _of_backup(Kind.BACKUP, Outcome.RUNNING),
    ev.CREATED: _of_backup(Kind.BACKUP, Outcome.SUCCEEDED),
    ev.FAILED: _of_backup(Kind.BACKUP, Outcome.FAILED),
    ev.CANCELLED: _of_backup(Kind.BACKUP, Outcome.CANCELLED),
    ev.ADOPTED: _at_once(Kind.ADOPTION),
    ev.KEY_VIEWED: _at_once(Kind.KEY_VIEW),
    ev.KEY_EXPIRED: _at_once(Kind.KEY_EXPIRY),
    ev.HELD: _at_once(Kind.HOLD),
    ev.RELEASED: _at_once(Kind.RELEASE),
    ev.HOLD_EXPIRED: _at_once(Kind.RELEASE),
    ev.PURGE_STARTED: _of_backup(Kind.PURGE, Outcome.RUNNING),
    ev.PURGE_REFUSED: _of_backup(Kind.PURGE, Outcome.FAILED),
    ev.PURGE_GIVEN_UP: _of_backup(Kind.PURGE, Outcome.CANCELLED),
    ev.PURGED: _of_backup(Kind.PURGE, Outcome.SUCCEEDED),
    ev.RETENTION_APPLIED: _at_once(Kind.RETENTION, "retention"),
    ev.RETENTION_FAILED: _at_once(
        Kind.RETENTION, "retention", outcome=lambda data: (Outcome.FAILED, _code(data))
    ),
    ev.VERIFIED: _at_once(Kind.VERIFICATION, outcome=_verified),
    ev.STORAGE_CHECKED: _at_once(Kind.STORAGE_CHECK, "storage", outcome=_checked),
    ev.LOG_ADOPTED: _at_once(Kind.LOG_ADOPTION, "log"),
    ev.EVENT_SKIPPED: _at_once(Kind.EVENT_SKIP, "log"),
    ev.CONFIGURED: _at_once(Kind.CONFIGURATION, "setting"),
    ev.CONFIGURATION_CONFIRMED: _at_once(Kind.CONFIGURATION, "setting"),
    ev.OPERATION_NOTED: _noted,
}
_WHERE: Final = {
    "backup": "secryn backup show {}",
    "restore": "secryn restore show {}",
    "rehearsal": "secryn restore rehearsal show {}",
    "log": "secryn status",
    "retention": "secryn retention show",
    "storage": "secryn storage check",
    "setting": "secryn {} show",
}
# What is not called as its command is.
_COMMANDS: Final = {"approval": "restore approval"}


def where_to_look(subject_type: str, subject: str) -> str:
    """Return the command that shows more."""
    return _WHERE[subject_type].format(_COMMANDS.get(subject, subject))
