"""What an entry of an audit trail says, whose field names are those of OCSF API Activity (6003)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from typing_extensions import TypedDict

from shared.api.common import Sha256, Time
from shared.audit.trail import TYPE
from shared.bodies.base import Body


class ActorName(TypedDict):
    """A name."""

    name: str


class Actor(TypedDict):
    """Who did it."""

    user: ActorName


class Api(TypedDict):
    """What was done."""

    operation: str


class Resource(TypedDict):
    """What it was done to."""

    type: str
    uid: str


class Metadata(TypedDict):
    """What belongs together."""

    correlation_uid: str


class Unmapped(TypedDict):
    """What OCSF has no name for."""

    log_offset: int | None
    details: dict[str, Any]


class AuditEntryRecorded(Body):
    """Who did what, to what, when, from where, with which outcome; ``prev_hash`` chains entries."""

    TYPE: ClassVar[str] = TYPE
    seq: int
    prev_hash: Sha256
    class_uid: Literal[6003]
    time: Time
    service: str
    actor: Actor
    api: Api
    resources: list[Resource]
    src_endpoint: ActorName
    status: Literal["Success", "Failure"]
    status_code: str
    status_detail: str
    metadata: Metadata
    unmapped: Unmapped
    hash: Sha256
