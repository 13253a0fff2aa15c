"""When it is an alarm that no backup was proven."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.standing.setting import StandingSetting


class Staleness(StandingSetting):
    """How old the newest backup that counts may be. None: nobody is told."""

    SHORT: ClassVar[str] = "staleness"

    within_s: Annotated[int, Field(ge=60, le=366 * 86_400, strict=True)] | None = 2 * 86_400
