"""The events of an instance: typed, versioned, one class for each type string.

An event's identity, time, actor and epoch travel in the record's headers (CloudEvents binary
mode); a class here is the JSON body alone. Bytes are base64 (RFC 4648, section 5) in JSON.
A type string is never reused for another shape: a new shape is a new version (``.v2``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.errors import MessageUnreadable

TYPE_PREFIX = "com.secryn.instance."

# PostgreSQL's text and jsonb hold every character but NUL.
WITHOUT_NUL = r"^[^\x00]*$"
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=WITHOUT_NUL)]
Text = Annotated[str, Field(max_length=4096, pattern=WITHOUT_NUL)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
Size = Annotated[int, Field(ge=0, le=2**31 - 1)]
Labels = dict[Name, Text]


def _storable(value: Any) -> Any:
    for part in _parts(value):
        if isinstance(part, str) and "\x00" in part:
            raise ValueError("a value holds the character NUL")
        if isinstance(part, float) and not math.isfinite(part):
            raise ValueError("a value holds a number that is none in JSON")
    return value


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)
    else:
        yield value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time lies outside of the years 1 to 9999") from None


Plain = Annotated[Any, AfterValidator(_storable)]
# A time without a zone would be another one on every server (RFC 3339, section 5.6).
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
ScopeKind = Literal["instance", "project", "vault", "secret"]


class InstanceEvent(BaseModel):
    """The base of every event; ``TYPE`` is its CloudEvents type."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )
    TYPE: ClassVar[str]


class ProjectCreated(InstanceEvent):
    TYPE = TYPE_PREFIX + "project.created.v1"
    id: UUID
    name: Name
    description: Text = ""


class ProjectUpdated(InstanceEvent):
    TYPE = TYPE_PREFIX + "project.updated.v1"
    id: UUID
    name: Name
    description: Text = ""


class ProjectDeleted(InstanceEvent):
    TYPE = TYPE_PREFIX + "project.deleted.v1"
    id: UUID


class VaultCreated(InstanceEvent):
    TYPE = TYPE_PREFIX + "vault.created.v1"
    id: UUID
    project_id: UUID
    name: Name
    restricted: bool = False


class VaultUpdated(InstanceEvent):
    """What a vault is from now on: another ``project_id`` moves it."""

    TYPE = TYPE_PREFIX + "vault.updated.v1"
    id: UUID
    project_id: UUID
    name: Name
    restricted: bool


class VaultDeleted(InstanceEvent):
    TYPE = TYPE_PREFIX + "vault.deleted.v1"
    id: UUID


class SecretCreated(InstanceEvent):
    """A secret with its first version; ``sealed`` is the value under a data key."""

    TYPE = TYPE_PREFIX + "secret.created.v1"
    id: UUID
    vault_id: UUID
    name: Name
    kind: Name
    labels: Labels = {}
    sealed: bytes
    size_bytes: Size


class SecretVersionAdded(InstanceEvent):
    TYPE = TYPE_PREFIX + "secret.version_added.v1"
    id: UUID
    version: Version
    sealed: bytes
    size_bytes: Size


class SecretUpdated(InstanceEvent):
    """What a secret is from now on: another ``vault_id`` moves it."""

    TYPE = TYPE_PREFIX + "secret.updated.v1"
    id: UUID
    vault_id: UUID
    name: Name
    labels: Labels


class SecretDeleted(InstanceEvent):
    """Mark a secret as deleted; its versions stay until it is purged."""

    TYPE = TYPE_PREFIX + "secret.deleted.v1"
    id: UUID


class SecretUndeleted(InstanceEvent):
    TYPE = TYPE_PREFIX + "secret.undeleted.v1"
    id: UUID


class SecretPurged(InstanceEvent):
    """Remove a deleted secret and all its versions for good."""

    TYPE = TYPE_PREFIX + "secret.purged.v1"
    id: UUID


class KeyCreated(InstanceEvent):
    TYPE = TYPE_PREFIX + "key.created.v1"
    id: UUID
    vault_id: UUID
    name: Name
    algorithm: Name
    public_key: bytes | None = None
    sealed_private: bytes


class KeyRotated(InstanceEvent):
    TYPE = TYPE_PREFIX + "key.rotated.v1"
    id: UUID
    version: Version
    public_key: bytes | None = None
    sealed_private: bytes


class KeyDeleted(InstanceEvent):
    TYPE = TYPE_PREFIX + "key.deleted.v1"
    id: UUID


class CertificateContent(InstanceEvent):
    """What a certificate's first and every later version carry."""

    id: UUID
    der: bytes
    subject: Text
    issuer: Text
    serial: Name
    not_before: Moment
    not_after: Moment
    key_id: UUID | None = None


class CertificateCreated(CertificateContent):
    TYPE = TYPE_PREFIX + "certificate.created.v1"
    vault_id: UUID
    name: Name


class CertificateRenewed(CertificateContent):
    TYPE = TYPE_PREFIX + "certificate.renewed.v1"
    version: Version


class CertificateRevoked(InstanceEvent):
    TYPE = TYPE_PREFIX + "certificate.revoked.v1"
    id: UUID
    version: Version


class CertificateDeleted(InstanceEvent):
    TYPE = TYPE_PREFIX + "certificate.deleted.v1"
    id: UUID


class UserCreated(InstanceEvent):
    TYPE = TYPE_PREFIX + "user.created.v1"
    id: UUID
    username: Name
    display_name: Text
    email: Text
    password_hash: Text | None = None


class UserUpdated(InstanceEvent):
    TYPE = TYPE_PREFIX + "user.updated.v1"
    id: UUID
    display_name: Text
    email: Text
    enabled: bool


class UserPasswordChanged(InstanceEvent):
    TYPE = TYPE_PREFIX + "user.password_changed.v1"
    id: UUID
    password_hash: Text


class UserDeleted(InstanceEvent):
    """Remove a user, and with it all its bindings."""

    TYPE = TYPE_PREFIX + "user.deleted.v1"
    id: UUID


class RoleCreated(InstanceEvent):
    TYPE = TYPE_PREFIX + "role.created.v1"
    id: UUID
    name: Name
    description: Text = ""
    permissions: tuple[Name, ...] = ()


class RoleUpdated(InstanceEvent):
    TYPE = TYPE_PREFIX + "role.updated.v1"
    id: UUID
    name: Name
    description: Text


class RoleDeleted(InstanceEvent):
    """Remove a role, and with it its permissions and bindings."""

    TYPE = TYPE_PREFIX + "role.deleted.v1"
    id: UUID


class RolePermissionGranted(InstanceEvent):
    TYPE = TYPE_PREFIX + "role.permission_granted.v1"
    id: UUID
    permission: Name


class RolePermissionRevoked(InstanceEvent):
    TYPE = TYPE_PREFIX + "role.permission_revoked.v1"
    id: UUID
    permission: Name


class RoleBindingCreated(InstanceEvent):
    """Give a user a role, on everything or on one project, vault or secret."""

    TYPE = TYPE_PREFIX + "role_binding.created.v1"
    id: UUID
    role_id: UUID
    user_id: UUID
    scope_kind: ScopeKind
    scope_id: UUID | None = None


class RoleBindingRemoved(InstanceEvent):
    TYPE = TYPE_PREFIX + "role_binding.removed.v1"
    id: UUID


class SettingSet(InstanceEvent):
    """Set a setting: a plain ``value``, or ``sealed`` for a secret one."""

    TYPE = TYPE_PREFIX + "setting.set.v1"
    name: Name
    value: Plain = None
    sealed: bytes | None = None


class SettingRemoved(InstanceEvent):
    TYPE = TYPE_PREFIX + "setting.removed.v1"
    name: Name


class KeyringKeyAdded(InstanceEvent):
    """Add a data key, wrapped (RFC 3394) under the root key ``root_key_id``."""

    TYPE = TYPE_PREFIX + "keyring.key_added.v1"
    id: UUID
    purpose: Name
    root_key_id: Name
    wrapped: bytes
    check_value: bytes


class KeyringKeyRetired(InstanceEvent):
    TYPE = TYPE_PREFIX + "keyring.key_retired.v1"
    id: UUID


class KeyringRewrapped(InstanceEvent):
    """All data keys wrapped anew: the root key was rotated."""

    TYPE = TYPE_PREFIX + "keyring.rewrapped.v1"
    root_key_id: Name
    wrapped: dict[UUID, bytes]


class LogSource(BaseModel):
    """What a state equals: ``fold(log[0 .. position))`` of one log."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    cluster_id: Name
    topic_id: Name
    snapshot_offset: int = Field(ge=0, description="S: the offset of the backup's snapshot.")
    position: int = Field(ge=0, description="X: where the roll-forward ended; S without one.")


class RestoreStarted(InstanceEvent):
    """Raise the fence: what follows is not applied until the restore's end is known."""

    TYPE = TYPE_PREFIX + "restore_started.v1"
    restore_id: UUID
    fence_no: int = Field(ge=1)
    backup_id: UUID
    # Of one that a second person approved.
    requested_by: Text | None = None
    approved_by: Text | None = None


class Restored(InstanceEvent):
    """The store was replaced: what stands between the fence and this event is void.

    The state is the ``source``'s; without one it is that before the fence of the restore
    ``undo_of``. An undo has a source where what was kept could not be brought up to that fence.
    """

    TYPE = TYPE_PREFIX + "restored.v1"
    restore_id: UUID
    fence_no: int = Field(ge=1)
    fence_offset: int = Field(ge=0)
    epoch: int = Field(ge=1)
    backup_id: UUID
    source: LogSource | None = None
    undo_of: UUID | None = None
    # Of one that a second person approved.
    requested_by: Text | None = None
    approved_by: Text | None = None


class RestoreAborted(InstanceEvent):
    """Lower the fence: nothing was replaced, and what stands behind it applies."""

    TYPE = TYPE_PREFIX + "restore_aborted.v1"
    restore_id: UUID
    fence_no: int = Field(ge=1)
    reason: Text
    # Of one that a second person approved.
    requested_by: Text | None = None
    approved_by: Text | None = None


class LogAdopted(InstanceEvent):
    """The store goes on with this log: what its state was made of before is not on it.

    Whoever rebuilds a state from this log alone stops here.
    """

    TYPE = TYPE_PREFIX + "log_adopted.v1"
    adoption_id: UUID
    epoch: int = Field(ge=1)
    lost_cluster_id: Name | None
    lost_topic_id: Name | None
    lost_position: int = Field(ge=0)


FENCE_EVENTS = (RestoreStarted, Restored, RestoreAborted)
# Signed by a service of the place; all others are a platform service's.
ANNOUNCED_EVENTS = (*FENCE_EVENTS, LogAdopted)


def _all_classes(base: type[InstanceEvent]) -> list[type[InstanceEvent]]:
    found = [base] if "TYPE" in base.__dict__ else []
    return found + [cls for child in base.__subclasses__() for cls in _all_classes(child)]


EVENT_TYPES: dict[str, type[InstanceEvent]] = {cls.TYPE: cls for cls in _all_classes(InstanceEvent)}


def encode(event: InstanceEvent) -> bytes:
    """Return the JSON body of ``event``, UTF-8."""
    return event.model_dump_json().encode("utf-8")


def decode(ce_type: str, data: bytes) -> InstanceEvent:
    """Return the event of type ``ce_type`` that ``data`` holds.

    Raises MessageUnreadable for an unknown type or a body that is not of its schema; the
    message says where and why, never the value.
    """
    cls = EVENT_TYPES.get(ce_type)
    if cls is None:
        raise MessageUnreadable(f"no event type {ce_type!r} is known here")
    try:
        return cls.model_validate_json(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['type']}"
            for fault in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise MessageUnreadable(f"the body is not a {ce_type}: {faults}") from None


def json_schemas() -> dict[str, Any]:
    """Return the JSON Schema of every event type by its type string."""
    return {name: EVENT_TYPES[name].model_json_schema() for name in sorted(EVENT_TYPES)}
