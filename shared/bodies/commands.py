"""Commands that one service sends to the other."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class CancelRunning(BaseModel):
    """Give up the backup that is being made: a restore is in a hurry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    restore_id: UUID
