"""A command that comes in again is answered as before; another one under its id is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.errors import CommandReused
from shared.eventstore import StoredEvent


def check_same(command_id: UUID, known: StoredEvent, kind: str, asked: Mapping[str, Any]) -> None:
    """Compare what is asked for, as ``kind`` would hold it, with the event of an earlier command.

    ``asked`` are the fields that the commands themselves decided. Raises CommandReused.
    """
    if known.type != kind:
        raise CommandReused(f"the command {command_id} came before, and asked for something else")
    differs = sorted(name for name, value in asked.items() if known.data.get(name) != value)
    if differs:
        raise CommandReused(
            f"the command {command_id} came before, with another {', '.join(differs)}"
        )
