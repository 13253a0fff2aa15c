"""When the newest backup is rehearsed by itself."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from shared.standing.timing import Timing


class RehearsalTiming(Timing):
    """Rehearsals at set times, where this place has an identity that opens backups.

    ``fold_log`` has the log folded up to the backup, too. ``within_s`` is how long ago the last
    rehearsal that found a backup restorable may be. None: nobody is told.
    """

    SHORT: ClassVar[str] = "rehearsal"

    fold_log: bool = Field(default=True, strict=True)
    within_s: Annotated[int, Field(ge=3600, le=366 * 86_400, strict=True)] | None = None
