"""How often stored objects are read back."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.standing.setting import StandingSetting


class Verification(StandingSetting):
    """Every stored object is read back within this time. None: only when somebody asks."""

    SHORT: ClassVar[str] = "verification"

    # Of the object's bytes: the storage and the disk are left to others.
    bytes_per_s: Annotated[int, Field(ge=100_000, le=100_000_000_000, strict=True)] = 20_000_000
    every_s: Annotated[int, Field(ge=3600, le=366 * 86_400, strict=True)] | None = None
