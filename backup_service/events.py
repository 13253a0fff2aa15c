"""The events of backup_service: types, and the fold that gives a backup's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from backup_service.holds import with_hold, without_hold
from shared.eventstore import StoredEvent

PREFIX = "com.secryn.backup."
REQUESTED = PREFIX + "requested.v1"
STARTED = PREFIX + "started.v1"
CREATED = PREFIX + "created.v1"
FAILED = PREFIX + "failed.v1"
CANCEL_REQUESTED = PREFIX + "cancel_requested.v1"
CANCELLED = PREFIX + "cancelled.v1"
REJECTED = PREFIX + "rejected.v1"
KEY_VIEWED = PREFIX + "key_viewed.v1"
KEY_EXPIRING = PREFIX + "key_expiring.v1"
KEY_EXPIRED = PREFIX + "key_expired.v1"
VERIFIED = PREFIX + "verified.v1"
# What a verification found lost or altered; told each time that it is found.
DAMAGED = PREFIX + "damaged.v1"
STORAGE_CHECKED = PREFIX + "storage_checked.v1"
REHEARSED = PREFIX + "rehearsed.v1"
ADOPTED = PREFIX + "adopted.v1"
LOG_ADOPTED = PREFIX + "log_adopted.v1"
EVENT_SKIPPED = PREFIX + "event_skipped.v1"
CONFIGURED = PREFIX + "configured.v1"
CONFIGURATION_CONFIRMED = PREFIX + "configuration_confirmed.v1"
RESTORE_NOTED = PREFIX + "restore_noted.v1"

TICK_TAKEN = PREFIX + "tick_taken.v1"
TICK_RETRIED = PREFIX + "tick_retried.v1"
SCHEDULE_REBASED = PREFIX + "schedule_rebased.v1"
CHANGE_TAKEN = PREFIX + "change_taken.v1"
WATCH_BEGAN = PREFIX + "watch_began.v1"
STALE = PREFIX + "stale.v1"
FRESH = PREFIX + "fresh.v1"
CONFIRMATION_AWAITED = PREFIX + "confirmation_awaited.v1"

# Every decision about a tick; about changes; about staleness.
TICKS_STREAM = "schedule-ticks"
CHANGES_STREAM = "schedule-changes"
STALENESS_STREAM = "staleness"
# What restore_service told of restores and undos, each with the epoch that it began.
RESTORES_STREAM = "restores"
HELD = PREFIX + "held.v1"
RELEASED = PREFIX + "released.v1"
HOLD_EXPIRED = PREFIX + "hold_expired.v1"
PURGE_STARTED = PREFIX + "purge_started.v1"
PURGE_REFUSED = PREFIX + "purge_refused.v1"
PURGE_GIVEN_UP = PREFIX + "purge_given_up.v1"
PURGED = PREFIX + "purged.v1"
RESTORE_USES = PREFIX + "restore_uses.v1"
RETENTION_REQUESTED = PREFIX + "retention_requested.v1"
RETENTION_APPLIED = PREFIX + "retention_applied.v1"
RETENTION_FAILED = PREFIX + "retention_failed.v1"
# What restore_service told, kept for the list of operations; published nowhere.
OPERATION_NOTED = PREFIX + "operation_noted.v1"

_STATES = {
    REQUESTED: "requested",
    STARTED: "running",
    CREATED: "created",
    ADOPTED: "created",
    FAILED: "failed",
    CANCELLED: "cancelled",
    PURGE_STARTED: "purging",
    PURGED: "purged",
}
ENDED = frozenset({"created", "failed", "cancelled", "purging", "purged"})


BACKUP_STREAM = "backup-"


def stream_of(backup_id: object) -> str:
    """Return the name of a backup's stream."""
    return f"{BACKUP_STREAM}{backup_id}"


def log_stream_of(command_id: object) -> str:
    """Return the name of the stream of one decision about the instance's log."""
    return f"log-{command_id}"


@dataclass
class Backup:
    """A backup as its events tell it; ``facts`` are the fields that people and programs read."""

    backup_id: str
    version: int = 0
    state: str = "none"
    cancel_requested: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it by itself."""
        return self.state in ENDED

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {"backup_id": self.backup_id, "state": self.state} | self.facts


def fold_backup(backup_id: object, events: Iterable[StoredEvent]) -> Backup:
    """Return the state of a backup from its stream."""
    backup = Backup(str(backup_id))
    for event in events:
        backup.version = event.version
        backup.state = _STATES.get(event.type, backup.state)
        _FACTS.get(event.type, _nothing)(backup, event)
    return backup


def _nothing(_backup: Backup, _event: StoredEvent) -> None:
    return None


# What is shown of a key; which of them are known depends on what became of it.
_KEY = dict.fromkeys(
    ("key_state", "key_expires_at", "key_viewed_by", "key_viewed_at", "key_expired_at")
)
# What is shown of every backup, whatever has happened to it yet.
_NOTHING_YET: dict[str, Any] = _KEY | {
    "started_at": None,
    "offset": None,
    "size_bytes": None,
    "duration_s": None,
    "sha256": None,
    "location": None,
    "proven_at": None,
    "intact": None,
    "receipt_intact": None,
    "last_verified_at": None,
    "last_verification": None,
    "rehearsed_at": None,
    "rehearsal": None,
    "holds": [],
    "restores": {},
    "purge": None,
    "purged_at": None,
    "purged": None,
    "error": None,
}


def _requested(backup: Backup, event: StoredEvent) -> None:
    backup.facts = _NOTHING_YET | {
        "reason": event.data["reason"],
        "requested_by": event.actor,
        "requested_at": event.occurred_at.isoformat(),
        "recipients": event.data["recipient_fingerprints"],
        "at_position": event.data["at_position"],
        "wait_for_restore": event.data.get("wait_for_restore", False),
        # None: somebody asked for it. Else the kind is "schedule" or "changes".
        "trigger": event.data.get("trigger"),
        "correlation_id": event.correlation_id,
    }


def _started(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {"started_at": event.occurred_at.isoformat()}


def _created(backup: Backup, event: StoredEvent) -> None:
    shown = {name: value for name, value in event.data.items() if name != "backup_id"}
    own = bool(backup.facts["recipients"])
    backup.facts |= shown | {
        "created_at": event.occurred_at.isoformat(),
        "key_state": "own_recipient" if own else "waiting",
    }


def _adopted(backup: Backup, event: StoredEvent) -> None:
    """What the receipt says, as if its own events had told it; and that it was adopted."""
    receipt = event.data["receipt"]
    own = receipt["key_fingerprint"] is None
    told = {name: value for name, value in receipt.items() if name != "backup_id"}
    backup.facts = (
        _NOTHING_YET
        | told
        | {
            "requested_at": receipt["started_at"],
            "created_at": receipt["proven_at"],
            "recipients": receipt["recipient_fingerprints"] if own else [],
            "at_position": receipt["behind"],
            # The receipt does not say.
            "wait_for_restore": None,
            "trigger": None,
            "correlation_id": event.correlation_id,
            "location": event.data["location"],
            "adopted_by": event.actor,
            "adopted_at": event.occurred_at.isoformat(),
            "trusted_by": event.data["trusted_by"],
        }
    )
    backup.facts |= {name: event.data.get(name) for name in _KEY}


def _failed(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {"error": event.data["error"], "ended_at": event.occurred_at.isoformat()}
    if backup.facts["started_at"] is not None:
        took = event.occurred_at - datetime.fromisoformat(backup.facts["started_at"])
        backup.facts["duration_s"] = round(took.total_seconds(), 3)


def _cancel_requested(backup: Backup, _event: StoredEvent) -> None:
    backup.cancel_requested = True


def _key_viewed(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {
        "key_state": "viewed",
        "key_viewed_by": event.actor,
        "key_viewed_at": event.occurred_at.isoformat(),
    }


def _key_expiring(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {"key_expires_at": event.data["expires_at"]}


def _key_expired(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {"key_state": "expired", "key_expired_at": event.data["expired_at"]}


def _verified(backup: Backup, event: StoredEvent) -> None:
    receipt = event.data["outcome"].get("receipt") or {}
    backup.facts |= {
        "intact": event.data["outcome"]["intact"],
        "receipt_intact": receipt.get("intact"),
        "last_verified_at": event.occurred_at.isoformat(),
        "last_verification": event.data["outcome"],
    }


def _rehearsed(backup: Backup, event: StoredEvent) -> None:
    found = {name: value for name, value in event.data.items() if name != "backup_id"}
    backup.facts |= {"rehearsed_at": found.pop("rehearsed_at"), "rehearsal": found}


def _held(backup: Backup, event: StoredEvent) -> None:
    backup.facts = with_hold(backup.facts, event)


def _released(backup: Backup, event: StoredEvent) -> None:
    backup.facts = without_hold(backup.facts, event)


def _purge_started(backup: Backup, event: StoredEvent) -> None:
    before = backup.facts["purge"] or {}
    backup.facts["purge"] = {
        "why": event.data["why"],
        "rule": event.data["rule"],
        "reason": event.data["reason"],
        "by": event.actor,
        "started_at": event.occurred_at.isoformat(),
        "attempts": before.get("attempts", 0) + 1,
        "error": None,
        "retry_at": None,
    }


def _purge_refused(backup: Backup, event: StoredEvent) -> None:
    """The object is there as it was: so is the backup; or nobody can tell, and it stays so."""
    if event.data["object_is_there"]:
        backup.state = "created"
    told = {"error": event.data["error"], "retry_at": event.data["retry_at"]}
    backup.facts["purge"] = backup.facts["purge"] | told


def _purge_given_up(backup: Backup, _event: StoredEvent) -> None:
    backup.facts["purge"] = None


def _purged(backup: Backup, event: StoredEvent) -> None:
    done = {name: backup.facts["purge"][name] for name in ("why", "rule", "reason", "by")}
    at = event.occurred_at.isoformat()
    backup.facts |= {"purge": None, "purged": done, "purged_at": at}
    if backup.facts["key_state"] == "waiting":
        backup.facts["key_state"] = "destroyed"


def _restore_uses(backup: Backup, event: StoredEvent) -> None:
    use = {name: event.data.get(name) for name in ("state", "asked_until", "undo_until")}
    backup.facts["restores"] = backup.facts["restores"] | {event.data["restore_id"]: use}


_FACTS = {
    REQUESTED: _requested,
    STARTED: _started,
    CREATED: _created,
    ADOPTED: _adopted,
    FAILED: _failed,
    CANCELLED: _failed,
    CANCEL_REQUESTED: _cancel_requested,
    KEY_VIEWED: _key_viewed,
    KEY_EXPIRING: _key_expiring,
    KEY_EXPIRED: _key_expired,
    VERIFIED: _verified,
    REHEARSED: _rehearsed,
    HELD: _held,
    RELEASED: _released,
    HOLD_EXPIRED: _released,
    PURGE_STARTED: _purge_started,
    PURGE_REFUSED: _purge_refused,
    PURGE_GIVEN_UP: _purge_given_up,
    PURGED: _purged,
    RESTORE_USES: _restore_uses,
}
