"""When backups are made by themselves, and for whom."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from backup_service.keys.recipients import MOST_NAMED, parse_recipients
from shared.archive.age import recipient_fingerprint
from shared.standing.timing import Timing


class Schedule(Timing):
    """Backups at set times, and after so many events.

    After ``after_events`` events a backup is made between the runs, too, but not sooner than
    ``after_events_pause_s`` after the last such one.
    """

    SHORT: ClassVar[str] = "schedule"
    PAUSED_WHEN_FOREIGN: ClassVar[bool] = True

    after_events: Annotated[int, Field(le=1_000_000_000, strict=True)] | None = None
    after_events_pause_s: Annotated[int, Field(ge=1, le=86_400, strict=True)] = 60
    skip_if_unchanged: bool = Field(default=False, strict=True)
    recipients: Annotated[tuple[str, ...], Field(max_length=MOST_NAMED)] = ()

    @field_validator("after_events")
    @classmethod
    def _some_events(cls, events: int | None) -> int | None:
        if events is not None and events < 1:
            raise ValueError(f"{events} events are none: write 1 or more, or null for never")
        return events

    @field_validator("recipients")
    @classmethod
    def _readable(cls, recipients: tuple[str, ...]) -> tuple[str, ...]:
        return parse_recipients(recipients)

    def named_recipients(self) -> frozenset[str]:
        """Return whom the schedule lets read backups."""
        return frozenset(self.recipients)

    def shown(self) -> dict[str, Any]:
        """Return what the audit trail shows: recipients by their fingerprints."""
        fingerprints = [recipient_fingerprint(text) for text in self.recipients]
        return self.as_json() | {"recipients": fingerprints}
