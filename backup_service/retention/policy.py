"""The rules of retention as an administrator sets them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator, model_validator

from backup_service.retention.span import Span
from shared.errors import RetentionRefused, UsageError
from shared.standing.setting import StandingSetting

MOST: Final = 100_000
MOST_DAYS: Final = 36_500

Count = Annotated[int, Field(ge=1, le=MOST, strict=True)]
_WRITE: Final = {
    "keep_last": "a whole number from 1 on (keep_last: 14); leave it out for no such limit",
    "older_than_days": "a whole number of days from 1 on (older_than_days: 90); leave it out for "
    "no such limit",
    "keep_within": "years, months, days and hours in this order: 14d, 36h, 1y6m",
    "zone": "a time zone of the IANA database: UTC, Europe/Berlin",
}
_WRITE_COUNT: Final = "a whole number from 1 on (keep_daily: 7); leave it out for no such rule"


class RetentionPolicy(StandingSetting):
    """Which backups are purged: what the limits name and no keep protects.

    ``keep_last`` and ``older_than_days`` are the limits, the other ``keep_...`` protect as in
    restic. Days, weeks, months and years are those of ``zone``.
    """

    SHORT: ClassVar[str] = "retention"
    # Rules of another instance purge nothing before they are confirmed, and those that a restore
    # brought back only what the ones before it would.
    PAUSED_WHEN_FOREIGN: ClassVar[bool] = True
    HELD_BACK: ClassVar[bool] = True

    keep_last: Count | None = None
    older_than_days: Annotated[int, Field(ge=1, le=MOST_DAYS, strict=True)] | None = None
    keep_within: Annotated[str, Field(max_length=40)] | None = None
    keep_hourly: Count | None = None
    keep_daily: Count | None = None
    keep_weekly: Count | None = None
    keep_monthly: Count | None = None
    keep_yearly: Count | None = None
    zone: Annotated[str, Field(max_length=64)] = "UTC"

    @field_validator("keep_within")
    @classmethod
    def _is_span(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                Span.parse(text)
            except UsageError as error:
                raise ValueError(error.message) from None
        return text

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is no time zone") from None
        return name

    @model_validator(mode="after")
    def _purges_something(self) -> Self:
        if self.protects and not self.limits:
            raise ValueError("the keep rules only protect: without a limit nothing is ever purged")
        return self

    @property
    def limits(self) -> bool:
        """Tell whether there is a limit: without one nothing is purged."""
        return self.keep_last is not None or self.older_than_days is not None

    @property
    def protects(self) -> bool:
        """Tell whether there is a keep rule of restic's."""
        return any(
            rule is not None
            for rule in (
                self.keep_within, self.keep_hourly, self.keep_daily, self.keep_weekly,
                self.keep_monthly, self.keep_yearly,
            )
        )  # fmt: skip

    @classmethod
    def read(cls, document: Any) -> Self:
        """Read the rules. Raises RetentionRefused, naming the rule and what to write instead."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            name = str(fault["loc"][0]) if fault["loc"] else ""
            message = fault["msg"].removeprefix("Value error, ")
            raise RetentionRefused(
                f"{name}: {message}" if name else message, hint=_what_to_write(name)
            ) from None


def _what_to_write(name: str) -> str:
    if not name:
        return (
            "Add keep_last or older_than_days. With keep_last: 1 the newest backup and what the "
            "keep rules protect stay, and all the rest is purged, as in restic."
        )
    if name not in RetentionPolicy.model_fields:
        return f"The rules are {', '.join(RetentionPolicy.model_fields)}."
    return f"Write {_WRITE.get(name, _WRITE_COUNT)}."
