"""What backup_service says of one backup, of its key, and of the storage."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from typing_extensions import TypedDict

from shared.api.backups import StoredDifference, TableDigest, Verification
from shared.api.common import Fault, Id, Sha256, Time
from shared.bodies.base import Body

PREFIX = "com.secryn.backup."


class OfBackup(Body):
    """Something that happened to one backup."""

    backup_id: Id


class ScheduleTrigger(TypedDict):
    """A run of the schedule asked for it."""

    kind: Literal["schedule"]
    tick: Time
    attempt: int


class ChangesTrigger(TypedDict):
    """So many events asked for it; null where nobody can tell how many."""

    kind: Literal["changes"]
    events: int | None


class BackupRequested(OfBackup):
    """A backup was asked for; without a trigger somebody did."""

    TYPE: ClassVar[str] = PREFIX + "requested.v1"
    command_id: Id
    instance_id: Id
    reason: str
    recipient_fingerprints: list[str]
    at_position: bool
    wait_for_restore: bool
    trigger: ScheduleTrigger | ChangesTrigger | None


class BackupStarted(OfBackup):
    """It is being made."""

    TYPE: ClassVar[str] = PREFIX + "started.v1"


class BackupCreated(OfBackup):
    """It is there, and was read back whole: ``offset`` is that of the log that it holds."""

    TYPE: ClassVar[str] = PREFIX + "created.v1"
    instance_id: Id
    environment: str
    epoch: int
    cluster_id: str
    topic_id: str
    offset: int
    schema_version: int
    digest: Sha256
    tables: dict[str, TableDigest]
    size_bytes: int
    copy_bytes: int | None = None
    sha256: Sha256
    location: str
    key_fingerprint: str | None
    recipient_fingerprints: list[str]
    signer: str
    requested_by: str
    reason: str
    started_at: Time
    proven_at: Time
    duration_s: float
    behind: bool
    key_expires_at: Time | None


class BackupFailed(OfBackup):
    """It did not come about, and left nothing behind."""

    TYPE: ClassVar[str] = PREFIX + "failed.v1"
    error: Fault


class BackupCancelRequested(OfBackup):
    """Somebody asked for it to be given up."""

    TYPE: ClassVar[str] = PREFIX + "cancel_requested.v1"


class BackupCancelled(OfBackup):
    """It was given up, and left nothing behind."""

    TYPE: ClassVar[str] = PREFIX + "cancelled.v1"
    error: Fault


class BackupCommandRejected(Body):
    """A signed command was understood, and refused."""

    TYPE: ClassVar[str] = PREFIX + "rejected.v1"
    command_id: Id
    code: str
    message: str
    hint: str | None


class KeyViewed(OfBackup):
    """The one-time key was given to whoever asked first; it is nowhere any more."""

    TYPE: ClassVar[str] = PREFIX + "key_viewed.v1"


class KeyExpiring(OfBackup):
    """The key that waits expires soon; ``warned_before_s`` is which of the warnings it is."""

    TYPE: ClassVar[str] = PREFIX + "key_expiring.v1"
    warned_before_s: int
    left_s: int
    expires_at: Time
    waits_since: Time


class KeyExpired(OfBackup):
    """Nobody viewed the key in time: nobody can open the backup."""

    TYPE: ClassVar[str] = PREFIX + "key_expired.v1"
    expired_at: Time
    waits_since: Time


class VerifiedObject(Verification):
    """What reading the object back found, and what became of its receipt."""

    receipt: Verification


class BackupVerified(OfBackup):
    """It was read back, and compared with what is known of it."""

    TYPE: ClassVar[str] = PREFIX + "verified.v1"
    outcome: VerifiedObject


class BackupDamaged(OfBackup):
    """A verification found the object or its receipt lost or altered."""

    TYPE: ClassVar[str] = PREFIX + "damaged.v1"
    intact: bool
    code: str | None
    message: str | None
    receipt: Verification


class StorageChecked(Body):
    """The storage was compared with the history: how often each difference, the first by name."""

    TYPE: ClassVar[str] = PREFIX + "storage_checked.v1"
    clean: bool
    findings: dict[str, int]
    named: list[StoredDifference]


class BackupRehearsed(OfBackup):
    """What a rehearsal found of it."""

    TYPE: ClassVar[str] = PREFIX + "rehearsed.v1"
    rehearsal_id: Id
    rehearsed_at: Time
    outcome: Literal["restorable", "differs", "failed"]
    equivalent: bool | None
    next_backup_id: Id | None
    differing: list[str]
    estimate: dict[str, float] | None
    code: str | None


class BackupAdopted(OfBackup):
    """One that the history did not know was taken in, by its signed receipt."""

    TYPE: ClassVar[str] = PREFIX + "adopted.v1"
    receipt: dict[str, Any]
    location: str
    trusted_by: Literal["signer", "caller"]
    key_state: Literal["waiting", "viewed", "expired", "gone", "own_recipient"]
    key_expires_at: Time | None = None
    key_viewed_by: str | None = None
    key_viewed_at: Time | None = None
    key_expired_at: Time | None = None


class BackupHeld(OfBackup):
    """Somebody keeps it from being purged; without an end until released."""

    TYPE: ClassVar[str] = PREFIX + "held.v1"
    holder: str
    reason: str
    until: Time | None


class BackupReleased(OfBackup):
    """A holder gave the hold back."""

    TYPE: ClassVar[str] = PREFIX + "released.v1"
    holder: str
    reason: str


class HoldExpired(OfBackup):
    """The time of a hold is over."""

    TYPE: ClassVar[str] = PREFIX + "hold_expired.v1"
    holder: str
    until: Time


class RestoreUses(OfBackup):
    """What a restore does with it, and until when it may need it."""

    TYPE: ClassVar[str] = PREFIX + "restore_uses.v1"
    restore_id: Id
    state: str
    asked_until: Time | None
    undo_until: Time | None


class PurgeStarted(OfBackup):
    """It is being deleted; ``rule`` is that of retention."""

    TYPE: ClassVar[str] = PREFIX + "purge_started.v1"
    why: str
    rule: str | None
    reason: str


class PurgeRefused(OfBackup):
    """The storage did not delete it; null where nobody can tell whether it is there."""

    TYPE: ClassVar[str] = PREFIX + "purge_refused.v1"
    object_is_there: bool | None
    error: Fault
    retry_at: Time


class PurgeGivenUp(OfBackup):
    """The storage had refused, and the deletion is wanted no more."""

    TYPE: ClassVar[str] = PREFIX + "purge_given_up.v1"
    reason: str


class BackupPurged(OfBackup):
    """It is gone, and its key with it."""

    TYPE: ClassVar[str] = PREFIX + "purged.v1"
    why: str
    rule: str | None
    reason: str
    size_bytes: int
    sha256: Sha256
