"""When something is done by itself: the fields of every schedule, and the rule that they name."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from shared.standing.rule import Rule, read_expression
from shared.standing.setting import StandingSetting
from shared.standing.zones import read_zone

Frequency = Literal["hourly", "daily", "weekly", "monthly", "cron"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")


class Timing(StandingSetting):
    """Runs at set times.

    ``at`` is the run time, of which an hourly schedule takes the minute. ``day`` is a day of the
    month; in a month that is shorter its last day runs. ``paused_until`` is a moment, or a date
    that runs again from its beginning. ``jitter_s`` delays each run by up to so long, the same one
    always by the same.
    """

    enabled: bool = Field(default=False, strict=True)
    frequency: Frequency = "daily"
    at: str = "02:00"
    weekday: Weekday | None = None
    day: Annotated[int, Field(ge=1, le=31, strict=True)] | None = None
    cron: str | None = None
    zone: str = "UTC"
    missed: Literal["run", "skip"] = "run"
    jitter_s: Annotated[int, Field(ge=0, le=6 * 3600, strict=True)] = 0
    paused_until: AwareDatetime | date | None = None

    @field_validator("at")
    @classmethod
    def _a_time(cls, text: str) -> str:
        if not _TIME.fullmatch(text):
            raise ValueError(f"{text[:20]!r} is no time: write 02:00 for two in the night")
        return text

    @field_validator("zone")
    @classmethod
    def _a_zone(cls, name: str) -> str:
        return read_zone(name).key

    @field_validator("cron")
    @classmethod
    def _an_expression(cls, text: str | None) -> str | None:
        return None if text is None else read_expression(text)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for frequency, name, example in (
            ("weekly", "weekday", "sunday"),
            ("monthly", "day", "1"),
            ("cron", "cron", "0 2 * * *"),
        ):
            given = getattr(self, name) is not None
            if self.frequency == frequency and not given:
                raise ValueError(f"frequency {frequency} needs {name}: write {example!r}, say")
            if self.frequency != frequency and given:
                raise ValueError(
                    f"{name} is for the frequency {frequency}: leave it out, or write "
                    f"{frequency!r} as frequency"
                )
        return self

    @property
    def rule(self) -> Rule:
        """Return which moments the schedule names."""
        zone = read_zone(self.zone)
        hour, minute = (int(part) for part in self.at.split(":"))
        match self.frequency:
            case "hourly":
                return Rule(f"{minute} * * * *", zone)
            case "weekly":
                assert self.weekday is not None
                return Rule(f"{minute} {hour} * * {self.weekday[:3].upper()}", zone)
            case "monthly":
                assert self.day is not None
                if self.day <= 28:
                    return Rule(f"{minute} {hour} {self.day} * *", zone)
                return Rule(f"{minute} {hour} 28-31 * *", zone, self.day)
            case "cron":
                assert self.cron is not None
                return Rule(self.cron, zone)
            case _:
                return Rule(f"{minute} {hour} * * *", zone)

    @property
    def resumes_at(self) -> datetime | None:
        """Return when a pause ends, in UTC."""
        if self.paused_until is None:
            return None
        if isinstance(self.paused_until, datetime):
            return self.paused_until.astimezone(UTC)
        begins = datetime.combine(self.paused_until, time(), read_zone(self.zone))
        return begins.astimezone(UTC)

    def goes_on(self, before: Self) -> bool:
        """Tell whether the ticks are the same: one that is due at this moment is not lost."""
        same = (before.rule, before.resumes_at) == (self.rule, self.resumes_at)
        return before.enabled and self.enabled and same
