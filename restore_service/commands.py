"""The commands of restore_service; HTTP and Kafka build the same ones."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import MessageUnreadable, PartialScope, UsageError

RESTORE_INSTANCE = "com.secryn.restore.run.v1"
UNDO_RESTORE = "com.secryn.restore.undo.v1"
REHEARSE_RESTORE = "com.secryn.restore.rehearse.v1"
APPROVE_RESTORE = "com.secryn.restore.approve.v1"
START_RESTORE = "com.secryn.restore.start.v1"
CHANGE_APPROVAL = "com.secryn.restore.change_approval.v1"
_RESTORES = UUID("0f0b6c52-6d55-5d0e-8a55-6c9d2b6a1f7d")
_REHEARSALS = UUID("a3b7f1de-5c0e-5f7e-9a4b-3d1c8e2f6b90")
_PREVIEWS = UUID("5b0f0d0e-5c1c-5d1b-9a53-0b8f0f8e3f31")
SCOPE_FIELDS = frozenset(
    {"project", "projects", "vault", "vaults", "secret", "secrets", "tables", "only", "scope",
     "include", "exclude", "filter", "merge", "path", "paths"}
)  # fmt: skip
# To the fence, to an offset (the first one that is not applied), or to a moment of the log.
RollForward = Literal["latest"] | Annotated[int, Field(ge=0)] | AwareDatetime
# The SHA-256 of a secret that the client made: who shows it may watch and undo this restore.
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ReceiptDigest = Sha256
Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
# The hex of an age file, sealed to the present recipient.
SealedKey = Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$", max_length=256 * 1024, repr=False)]


def restore_id_of(command_id: UUID) -> UUID:
    """Return the id of the restore that the command of that id makes."""
    return uuid5(_RESTORES, str(command_id))


class ArchiveTask(BaseModel):
    """Something that is to be done with an archive, whoever has its key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    target_instance_id: UUID
    reason: Line
    backup_id: UUID | None = None
    upload_id: UUID | None = None
    source_instance_id: UUID | None = None
    trust_signer: Line | None = None
    environment: Line | None = None
    roll_forward: RollForward | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.backup_id is None) == (self.upload_id is None):
            raise ValueError("name either backup_id or upload_id")
        return self


class ArchiveCommand(ArchiveTask):
    """A task that somebody asks for, with the key; ``sealed_key`` is the hex of an age file.

    ``SEALED_FOR`` stands in the sealed body: a key that was sealed for one kind of command opens
    nothing for another.
    """

    SEALED_FOR: ClassVar[str | None] = None

    sealed_key: SealedKey


class RestoreInstance(ArchiveCommand):
    """Replace the whole instance by a backup."""

    # Why it may begin outside of the maintenance windows.
    outside_window: Line | None = None
    running_backup: Literal["wait", "cancel"] = "wait"
    receipt_sha256: ReceiptDigest | None = None
    # Access that was removed since the backup is removed again, right behind the restore.
    revoke_returning: bool = False
    # Why the operator does not wait for another person's approval.
    break_glass: Line | None = None

    @property
    def restore_id(self) -> UUID:
        """Return the id of the restore that this command makes."""
        return restore_id_of(self.command_id)


class RehearsalTask(ArchiveTask):
    """Do what a restore does up to the cut-over, beside the instance, and prove what it gives.

    ``expect_digest`` is what the state must be behind the roll-forward. ``next_backup_id`` names a
    later backup of the same log: rolled forward to it, the state must be that one's.
    """

    expect_digest: Sha256 | None = None
    next_backup_id: UUID | None = None
    # Whether the log is folded up to the backup, to compare its state with the archive's.
    fold_log: bool = True

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.expect_digest is not None and self.roll_forward is None:
            raise ValueError("expect_digest needs roll_forward")
        if self.next_backup_id is not None and self.roll_forward is not None:
            raise ValueError("name either roll_forward or next_backup_id")
        return self

    @property
    def rehearsal_id(self) -> UUID:
        """Return the id of the rehearsal that this command makes."""
        return uuid5(_REHEARSALS, str(self.command_id))


class RehearseRestore(RehearsalTask, ArchiveCommand):
    """A rehearsal that somebody asks for, with the key."""

    SEALED_FOR: ClassVar[str | None] = "rehearse"


class PreviewRestore(ArchiveCommand):
    """Show what the same command to restore would undo, with its ``newest`` events."""

    SEALED_FOR: ClassVar[str | None] = "preview"

    newest: Annotated[int, Field(ge=0, le=200)] = 20

    @property
    def preview_id(self) -> UUID:
        """Return the id of the preview that this command makes."""
        return uuid5(_PREVIEWS, str(self.command_id))


class ReapplyVoided(BaseModel):
    """Append again what stands at ``offsets`` behind a restore's fence, and was made void by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_instance_id: UUID
    offsets: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=100)]
    reason: Line
    environment: Line | None = None


class DropStray(BaseModel):
    """Drop what is kept of a restore that the history does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target_instance_id: UUID
    reason: Line
    environment: Line | None = None


class ApprovedRestore(RestoreInstance):
    """The command that was approved, with its key given again."""

    SEALED_FOR: ClassVar[str | None] = "start"


class StartRestore(BaseModel):
    """Begin a restore that was approved; the sealed body names the command that asked for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    restore_id: UUID
    sealed_key: SealedKey
    receipt_sha256: ReceiptDigest | None = None


class Approve(BaseModel):
    """Approve what another person asked for: a restore, or a change of the policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    restore_id: UUID | None = None
    change_id: UUID | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.restore_id is None) == (self.change_id is None):
            raise ValueError("name either restore_id or change_id")
        return self


class ChangeApproval(BaseModel):
    """Have restores approved by a second person, or not any more; its id is that of the change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    required: bool
    reason: Line


class UndoRestore(BaseModel):
    """Put back what the last restore replaced; ``restore_id`` names it, if it is to be checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    target_instance_id: UUID
    reason: Line
    restore_id: UUID | None = None
    environment: Line | None = None
    receipt_sha256: ReceiptDigest | None = None

    @property
    def undo_id(self) -> UUID:
        """Return the id of the restore that this command makes: an undo is one, too."""
        return restore_id_of(self.command_id)


C = TypeVar("C", bound=BaseModel)


def parse_command(model: type[C], document: Any) -> C:
    """Read a command from JSON; no message repeats a value. Raises PartialScope, UsageError."""
    if not isinstance(document, dict):
        raise UsageError("the command is not a JSON object")
    scoped = sorted(SCOPE_FIELDS & {str(name).lower() for name in document})
    if scoped:
        raise PartialScope(f"the command selects a part of the instance ({', '.join(scoped)})")
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'command'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"the command is refused: {faults}") from None


def parse_message(model: type[C], data: bytes) -> C:
    """Read a command from a message's body. Raises MessageUnreadable, and as above."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageUnreadable("the command's body is not JSON") from None
    return parse_command(model, document)
