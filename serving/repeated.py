"""A command that comes in again is answered as before; another one under its id is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from shared.errors import CommandReused


def check_same(command_id: UUID, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Compare what is asked for with what was ``stored`` under the same id. Raises CommandReused."""
    differs = sorted(name for name, value in asked.items() if stored.get(name) != value)
    if differs:
        raise CommandReused(
            f"the command {command_id} came before, with another {', '.join(differs)}"
        )
