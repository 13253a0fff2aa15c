"""The documents of backup_service."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from shared.api.common import Fault, Id, Running, Sha256, Time
from shared.api.schedule import RecoveryPoint


class TableDigest(TypedDict):
    """How many rows a table has, and their digest."""

    rows: int
    digest: str


class Verification(TypedDict):
    """What reading a stored object back found."""

    intact: bool
    code: str | None
    message: str | None


class Verified(Verification):
    """The same, of which backup."""

    backup_id: Id


class Estimate(TypedDict):
    """How long a restore would take, and for how much of that writers would wait."""

    restore_s: float
    writers_held_s: float


class RehearsalNote(TypedDict):
    """What the last rehearsal of a backup found."""

    rehearsal_id: Id
    outcome: Literal["restorable", "differs", "failed"]
    equivalent: bool | None
    next_backup_id: Id | None
    differing: list[str]
    estimate: dict[str, float] | None
    code: str | None


class Hold(TypedDict):
    """Who keeps a backup from being purged, why, and until when; without an end until released."""

    holder: str
    reason: str
    until: Time | None
    held_at: Time
    held_by: str


class PurgeGround(TypedDict):
    """By whom and why a backup is to go; ``rule`` is that of retention."""

    why: str
    rule: str | None
    reason: str
    by: str


class Purge(PurgeGround):
    """A purge that is not over; with ``error`` the storage refused, and is asked again."""

    started_at: Time
    attempts: int
    error: Fault | None
    retry_at: Time | None


class UseByRestore(TypedDict):
    """What a restore does with a backup, and until when it may need it."""

    state: str | None
    asked_until: Time | None
    undo_until: Time | None


class Backup(Running):
    """One backup, as its events tell it."""

    backup_id: Id
    state: Literal["requested", "running", "created", "failed", "cancelled", "purging", "purged"]
    reason: str
    requested_by: str
    requested_at: Time
    recipients: list[str]
    at_position: bool
    wait_for_restore: bool | None
    correlation_id: str
    offset: int | None
    size_bytes: int | None
    sha256: Sha256 | None
    location: str | None
    receipt_intact: NotRequired[bool | None]
    key_state: Literal["waiting", "viewed", "expired", "gone", "destroyed", "own_recipient"] | None
    key_expires_at: Time | None
    key_viewed_by: str | None
    key_viewed_at: Time | None
    key_expired_at: Time | None
    trigger: str | dict[str, Any] | None
    rehearsed_at: Time | None
    rehearsal: RehearsalNote | None
    error: Fault | None
    holds: list[Hold]
    restores: dict[Id, UseByRestore]
    purge: Purge | None
    purged: PurgeGround | None
    purged_at: Time | None
    # Once it is created:
    copy_bytes: NotRequired[int]
    instance_id: NotRequired[Id]
    environment: NotRequired[str]
    epoch: NotRequired[int]
    cluster_id: NotRequired[str]
    topic_id: NotRequired[str]
    schema_version: NotRequired[int]
    digest: NotRequired[Sha256]
    tables: NotRequired[dict[str, TableDigest]]
    key_fingerprint: NotRequired[str | None]
    recipient_fingerprints: NotRequired[list[str]]
    signer: NotRequired[str]
    started_at: NotRequired[Time | None]
    proven_at: NotRequired[Time | None]
    created_at: NotRequired[Time | None]
    duration_s: NotRequired[float | None]
    behind: NotRequired[bool]
    # Once it has ended otherwise:
    ended_at: NotRequired[Time]
    # Once it was verified, it was adopted:
    last_verified_at: NotRequired[Time | None]
    last_verification: NotRequired[Verification | None]
    adopted_by: NotRequired[str]
    adopted_at: NotRequired[Time]
    trusted_by: NotRequired[Literal["signer", "caller"]]


class BackupPage(TypedDict):
    """A page of the history, the newest backup first; ``next_cursor`` begins the next one."""

    backups: list[Backup]
    next_cursor: str | None
    recovery_point: RecoveryPoint


class StoredDifference(TypedDict):
    """One difference between the storage and the history; ``name`` is the object's."""

    kind: str
    name: str
    backup_id: Id | None


class StorageReport(TypedDict):
    """How the storage differs from the history: how often in each way, and the first by name."""

    clean: bool
    findings: dict[str, int]
    named: list[StoredDifference]


class RebuiltHistory(TypedDict):
    """What the history holds after it was made anew from the events up to ``position``."""

    backups: int
    position: int


class HistoryRebuild(Running):
    """How far a rebuild of the history is."""

    state: str


class SealedKey(TypedDict):
    """A one-time key, sealed to the recipient of this request: the hex of an age file."""

    backup_id: Id
    sealed_key: str


class ReceiptEntry(TypedDict):
    """A backup that has a receipt in the storage; ``started_at`` is what that says, unproven."""

    backup_id: Id
    started_at: Time | None
    known: bool


class ReceiptPage(TypedDict):
    """A page of receipts, by id; ``next_after`` begins the next one."""

    receipts: list[ReceiptEntry]
    next_after: Id | None


class Adopted(TypedDict):
    """What became of an adoption; with ``refused`` nothing was changed."""

    backup_id: Id
    outcome: Literal["adopted", "known", "refused"]
    state: NotRequired[str]
    code: NotRequired[str]
    message: NotRequired[str]
    hint: NotRequired[str | None]


class SignedReceipt(TypedDict):
    """The facts of a backup and an Ed25519 signature over them, as they lie in the storage."""

    receipt: dict[str, Any]
    signer: str
    signer_public_key: str
    signature: str
