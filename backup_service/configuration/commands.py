"""The commands that change or confirm a standing setting; HTTP and Kafka build the same ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backup_service.commands import Reason, parse_command
from backup_service.configuration.names import STANDING
from shared.errors import MessageUnreadable
from shared.standing.setting import StandingSetting

CONFIGURE: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"com.secryn.backup.configure_{name}.v1" for name in STANDING}
)
CONFIRM: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"com.secryn.backup.confirm_{name}.v1" for name in STANDING}
)
# Whatever is there.
ANY: Final = "*"
Etag = Annotated[str, Field(pattern=r"^(\*|[0-9a-f]{32})$")]


class _Decision(BaseModel):
    """``if_match`` is the etag of what the one who decides has read, or ``*``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    if_match: Etag
    reason: Reason = "by hand"


class ConfigureBody(_Decision):
    """A change; ``value`` holds every field that is not to have its default."""

    value: dict[str, Any]


class ConfirmBody(_Decision):
    """The word that what came from somewhere is meant."""


@dataclass(frozen=True)
class Configure:
    """Set a standing setting; ``value`` is validated."""

    command_id: UUID
    if_match: str
    reason: str
    value: StandingSetting


@dataclass(frozen=True)
class Confirm:
    """Confirm a standing setting as it is."""

    command_id: UUID
    if_match: str
    reason: str
    model: type[StandingSetting]


def parse_configure(model: type[StandingSetting], document: Any) -> Configure:
    """Read a change from JSON. Raises UsageError, naming the field and what to write."""
    body = parse_command(ConfigureBody, document)
    return Configure(body.command_id, body.if_match, body.reason, model.read(body.value))


def parse_confirm(model: type[StandingSetting], document: Any) -> Confirm:
    """Read a confirmation from JSON. Raises UsageError."""
    body = parse_command(ConfirmBody, document)
    return Confirm(body.command_id, body.if_match, body.reason, model)


def read_message(data: bytes) -> Any:
    """Read a message's body. Raises MessageUnreadable."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise MessageUnreadable("the command's body is not JSON") from None
