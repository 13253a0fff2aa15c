"""Which backups are kept."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from backup_service.configuration.setting import StandingSetting

Count = Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None


class Retention(StandingSetting):
    """Rules as restic means them; None: the rule is not set, and no rule set purges nothing."""

    SHORT: ClassVar[str] = "retention"
    PAUSED_WHEN_FOREIGN: ClassVar[bool] = True
    HELD_BACK: ClassVar[bool] = True

    keep_last: Count = None
    older_than_days: Count = None
