"""From a record of the instance log to an event: what it is, who wrote it, may it be believed.

A record is a CloudEvent in binary mode with two extensions of ours, ``ce_epoch`` and ``ce_actor``.
The three restore events are believed only when an issuer with the permission ``ANNOUNCE`` signed
them; whoever may write to the topic could otherwise raise a fence. A log adoption takes
``ANNOUNCE_ADOPTION``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import UUID

from shared.errors import MessageUnreadable, SignatureInvalid
from shared.instance.events import FENCE_EVENTS, InstanceEvent, LogAdopted, decode
from shared.instance.fold import LoggedEvent
from shared.kafka import Record
from shared.messages import CloudEvent, IssuerRegistry, verify

ANNOUNCE: Final = "announce_restore"
EPOCH: Final = "epoch"
ACTOR: Final = "actor"
# What events of the instance say beside what all messages do.
ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {EPOCH: "In which epoch it was written, by a platform service: in another one it is void."}
)
ANNOUNCE_ADOPTION: Final = "announce_adoption"
# What it takes to sign each.
_SIGNED: Final = {cls.TYPE: ANNOUNCE for cls in FENCE_EVENTS} | {LogAdopted.TYPE: ANNOUNCE_ADOPTION}
_SIGNED_HEADERS: Final = frozenset(("ce_type", name.encode("ascii")) for name in _SIGNED)
_MAX_EPOCH_DIGITS: Final = 10
_MAX_ACTOR_CHARS: Final = 255


@dataclass(frozen=True)
class Announced:
    """A restore event or a log adoption whose signature holds."""

    offset: int
    event_id: UUID
    event: InstanceEvent


@dataclass(frozen=True)
class Skipped:
    """A record that changes nothing here, and why (a word that can be counted)."""

    offset: int
    event_id: UUID
    reason: str


def read_record(
    record: Record, epoch: int, issuers: IssuerRegistry
) -> LoggedEvent | Announced | Skipped:
    """Return what ``record`` is to a follower in ``epoch``.

    Events of another epoch are skipped with their body unread: what a stale writer sends must
    not stop anyone. Raises MessageUnreadable for a record that cannot be decoded.
    """
    message = CloudEvent.from_kafka(record)
    if message.type in _SIGNED:
        return _announced(record.offset, message, issuers)
    if _epoch_of(message) != epoch:
        return Skipped(record.offset, message.id, "epoch")
    return LoggedEvent(
        offset=record.offset,
        event_id=message.id,
        type=message.type,
        time=message.time,
        actor=_actor_of(message),
        epoch=epoch,
        event=decode(message.type, message.data),
    )


def may_announce(record: Record) -> bool:
    """Tell whether ``read_announced`` has to look at ``record``, by its headers alone."""
    return not _SIGNED_HEADERS.isdisjoint(record.headers)


def read_announced(record: Record, issuers: IssuerRegistry) -> Announced | None:
    """Return the restore event or the log adoption that ``record`` carries; None for all others.

    Reads no body but that of a genuine one: behind a fence nothing else matters. Raises
    MessageUnreadable when a signed one cannot be decoded.
    """
    if not may_announce(record):
        return None
    try:
        message = CloudEvent.from_kafka(record)
    except MessageUnreadable:
        # Without its attributes there is no signature that could hold.
        return None
    found = _announced(record.offset, message, issuers)
    return found if isinstance(found, Announced) else None


def _announced(offset: int, message: CloudEvent, issuers: IssuerRegistry) -> Announced | Skipped:
    try:
        issuer = verify(message, issuers)
    except SignatureInvalid:
        return Skipped(offset, message.id, "unsigned")
    if _SIGNED[message.type] not in issuer.permissions:
        return Skipped(offset, message.id, "unsigned")
    return Announced(offset, message.id, decode(message.type, message.data))


def _epoch_of(message: CloudEvent) -> int:
    text = message.extensions.get(EPOCH, "")
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_EPOCH_DIGITS):
        raise MessageUnreadable("the message has no epoch, or one that is no number")
    return int(text)


def _actor_of(message: CloudEvent) -> str:
    actor = message.extensions.get(ACTOR, "")
    if not actor or len(actor) > _MAX_ACTOR_CHARS or "\0" in actor:
        raise MessageUnreadable("the message has no actor, or a malformed one")
    return actor
