"""The events of backup_service: types, and the fold that gives a backup's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

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

_STATES = {
    REQUESTED: "requested",
    STARTED: "running",
    CREATED: "created",
    ADOPTED: "created",
    FAILED: "failed",
    CANCELLED: "cancelled",
}
ENDED = frozenset({"created", "failed", "cancelled"})


def stream_of(backup_id: object) -> str:
    """Return the name of a backup's stream."""
    return f"backup-{backup_id}"


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


def _requested(backup: Backup, event: StoredEvent) -> None:
    backup.facts = _KEY | {
        "reason": event.data["reason"],
        "requested_by": event.actor,
        "requested_at": event.occurred_at.isoformat(),
        "recipients": event.data["recipient_fingerprints"],
        "at_position": event.data["at_position"],
        "wait_for_restore": event.data.get("wait_for_restore", False),
        # None: somebody asked for it. Else the kind is "schedule" or "changes".
        "trigger": event.data.get("trigger"),
        "correlation_id": event.correlation_id,
        "offset": None,
        "size_bytes": None,
        "sha256": None,
        "location": None,
        "rehearsed_at": None,
        "rehearsal": None,
        "error": None,
    }


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
    backup.facts = {name: value for name, value in receipt.items() if name != "backup_id"} | {
        "requested_at": receipt["started_at"],
        "created_at": receipt["proven_at"],
        "recipients": receipt["recipient_fingerprints"] if own else [],
        "at_position": receipt["behind"],
        # The receipt does not say.
        "wait_for_restore": None,
        "trigger": None,
        "correlation_id": event.correlation_id,
        "location": event.data["location"],
        "rehearsed_at": None,
        "rehearsal": None,
        "error": None,
        "adopted_by": event.actor,
        "adopted_at": event.occurred_at.isoformat(),
        "trusted_by": event.data["trusted_by"],
    }
    backup.facts |= {name: event.data.get(name) for name in _KEY}


def _failed(backup: Backup, event: StoredEvent) -> None:
    backup.facts |= {"error": event.data["error"], "ended_at": event.occurred_at.isoformat()}


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
    backup.facts |= {
        "last_verified_at": event.occurred_at.isoformat(),
        "last_verification": event.data["outcome"],
    }


def _rehearsed(backup: Backup, event: StoredEvent) -> None:
    found = {name: value for name, value in event.data.items() if name != "backup_id"}
    backup.facts |= {"rehearsed_at": found.pop("rehearsed_at"), "rehearsal": found}


_FACTS = {
    REQUESTED: _requested,
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
}
