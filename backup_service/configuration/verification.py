"""How often stored objects are read back."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from backup_service.configuration.setting import StandingSetting


class Verification(StandingSetting):
    """Every stored object is read back within this time. None: only when somebody asks."""

    SHORT: ClassVar[str] = "verification"

    every_s: Annotated[int, Field(ge=3600, le=366 * 86_400, strict=True)] | None = None
