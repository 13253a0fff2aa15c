"""The commands of backup_service; HTTP, Kafka and the schedule build the same ones."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backup_service.keys.recipients import MOST_NAMED, parse_recipients
from shared.api.common import GivenTime
from shared.bodies.commands import CancelRunning
from shared.errors import MessageUnreadable, PartialScope, UsageError

CREATE_BACKUP = "com.secryn.backup.create.v1"
HOLD_BACKUP = "com.secryn.backup.hold.v1"
RELEASE_BACKUP = "com.secryn.backup.release.v1"
DELETE_BACKUP = "com.secryn.backup.delete.v1"
RUN_RETENTION = "com.secryn.backup.run_retention.v1"
# A backup's id is derived from its command's: the same command can only be the same backup.
_BACKUPS = UUID("6f1c0d5e-3c6b-5a40-9d0c-0d3f5a7c1b21")
SCOPE_FIELDS = frozenset(
    {"project", "projects", "vault", "vaults", "secret", "secrets", "tables", "only", "scope",
     "include", "exclude", "filter", "project_id", "vault_id", "secret_id", "path", "paths"}
)  # fmt: skip


Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
Holder = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")]


class CreateBackup(BaseModel):
    """Back the whole instance up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    reason: Reason
    recipients: Annotated[tuple[str, ...], Field(max_length=MOST_NAMED)] = ()
    at_position: bool = False
    # Behind the fence of a restore a backup is refused, unless it asks to wait.
    wait_for_restore: bool = False

    @property
    def backup_id(self) -> UUID:
        """Return the id of the backup that this command makes."""
        return uuid5(_BACKUPS, str(self.command_id))


def parse_cancel_message(data: bytes) -> CancelRunning:
    """Read a command from a message's body. Raises MessageUnreadable, UsageError."""
    try:
        return CancelRunning.model_validate_json(data)
    except ValidationError as error:
        raise UsageError(f"the command is refused: {_faults(error)}") from None


class _ForInstance(BaseModel):
    """What a person decides about the store: which instance is meant, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID = Field(default_factory=uuid4)
    instance_id: UUID
    environment: str | None = None
    reason: Reason = "by hand"


class AdoptLog(_ForInstance):
    """Let the store follow the log that is there now."""

    start: Literal["beginning", "end"] | None = Field(default=None, alias="from")


class SkipEvent(_ForInstance):
    """Pass the one event that cannot be decoded."""

    offset: Annotated[int, Field(ge=0, lt=1 << 63, strict=True)]


class AdoptBackup(BaseModel):
    """Take a backup, known from its receipt alone, into the history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trust_signer: Annotated[str, Field(min_length=1, max_length=100)] | None = None


class _Decision(BaseModel):
    """What somebody decides, once, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID = Field(default_factory=uuid4)
    reason: Reason


class HoldBackup(_Decision):
    """Keep a backup from being purged, until a time or until it is released.

    ``holder`` is on whose behalf; without it, whoever asks.
    """

    holder: Holder | None = None
    until: GivenTime | None = None


class ReleaseBackup(_Decision):
    """Give one holder's hold back."""

    holder: Holder | None = None


class RunRetention(_Decision):
    """Apply the rules of retention now."""


class DeleteBackup(_Decision):
    """Delete a backup for good; ``confirm`` is its id, typed once more."""

    confirm: Annotated[str, Field(max_length=100)]


C = TypeVar("C", bound=BaseModel)


def parse_command(model: type[C], document: Any) -> C:
    """Read a command from JSON. Raises UsageError, naming the field."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise UsageError(f"the command is refused: {_faults(error)}") from None


def parse_create(document: Any) -> CreateBackup:
    """Read a command from JSON.

    Raises PartialScope when it selects a part of the instance, UsageError for anything else that
    is wrong, naming the field, RecipientInvalid and RecipientsMixed for its recipients.
    """
    if not isinstance(document, dict):
        raise UsageError("the command is not a JSON object")
    scoped = sorted(SCOPE_FIELDS & {str(name).lower() for name in document})
    if scoped:
        raise PartialScope(f"the command selects a part of the instance ({', '.join(scoped)})")
    command = parse_command(CreateBackup, document)
    return command.model_copy(update={"recipients": parse_recipients(command.recipients)})


def parse_create_message(data: bytes) -> CreateBackup:
    """Read a command from a message's body. Raises MessageUnreadable, and as ``parse_create``."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageUnreadable("the command's body is not JSON") from None
    return parse_create(document)


def parse_of_backup(model: type[C], data: bytes) -> tuple[str, C]:
    """Read a command about one backup from a message's body, and which backup that is.

    Raises MessageUnreadable, UsageError naming the field.
    """
    document = _document(data)
    try:
        backup_id = str(UUID(str(document.pop("backup_id", None))))
    except ValueError:
        raise UsageError("the command is refused: backup_id: is not the id of a backup") from None
    return backup_id, _parse_once(model, document)


def parse_message(model: type[C], data: bytes) -> C:
    """Read a command from a message's body. Raises MessageUnreadable, UsageError."""
    return _parse_once(model, _document(data))


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise MessageUnreadable("the command's body is not JSON") from None
    if not isinstance(document, dict):
        raise UsageError("the command is not a JSON object")
    return document


def _parse_once(model: type[C], document: dict[str, Any]) -> C:
    if "command_id" not in document:
        # Kafka delivers at least once: without it a second copy would be a second command.
        raise UsageError("the command is refused: command_id: Field required")
    return parse_command(model, document)


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
