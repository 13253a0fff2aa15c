"""What the forms of standing settings say: over what is there, so that nothing unseen is reset."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from typing import Any, Final

from shared.errors import UsageError

# The rules as sentences around a field; those that the setting knows are shown.
RULES: Final = {
    "keep_last": ("Keep the newest", "backups; older ones may go"),
    "older_than_days": ("Let backups go that are older than", "days"),
    "keep_within": ("But keep all of the last", "such as 14d or 1y6m"),
    "keep_hourly": ("and one an hour, of the last", "hours"),
    "keep_daily": ("and one a day, of the last", "days"),
    "keep_weekly": ("and one a week, of the last", "weeks"),
    "keep_monthly": ("and one a month, of the last", "months"),
    "keep_yearly": ("and one a year, of the last", "years"),
}
TEXT_RULES: Final = frozenset({"keep_within"})
# Each is of one frequency alone.
_OF_FREQUENCY: Final = {"weekday": "weekly", "day": "monthly", "cron": "cron"}


def schedule_of(form: Mapping[str, str], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schedule that a form makes of the ``present`` one.

    What the form does not show stays as it is; what is of another frequency is left out.
    Raises UsageError.
    """
    frequency = form.get("frequency", "daily")
    value: dict[str, Any] = {
        **present,
        "enabled": form.get("enabled") == "on",
        "frequency": frequency,
        "at": form.get("at", "").strip() or "02:00",
        "zone": form.get("zone", "").strip() or "UTC",
        "missed": form.get("missed", "run"),
        "skip_if_unchanged": form.get("skip_if_unchanged") == "on",
        "recipients": form.get("recipients", "").split(),
    }
    for name, only in _OF_FREQUENCY.items():
        text = form.get(name, "").strip() if frequency == only else ""
        value[name] = _number("day of the month", text) if text and name == "day" else text or None
    events = form.get("after_events", "").strip()
    value["after_events"] = _number("number of events", events) if events else None
    if "paused_until" in form:
        value["paused_until"] = _moment(form["paused_until"].strip())
    return value


def retention_of(form: Mapping[str, str], present: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules that a form makes of the ``present`` ones: an empty field is no rule.

    What the form does not show stays as it is. Raises UsageError.
    """
    value = dict(present)
    for name in (name for name in RULES if name in form):
        text = form[name].strip()
        number = text and name not in TEXT_RULES
        value[name] = _number(" ".join(RULES[name]), text) if number else text or None
    if "zone" in form:
        value["zone"] = form["zone"].strip() or "UTC"
    return value


def _number(what: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise UsageError(f"{text[:20]!r} is no whole number: {what}")
    return int(text)


def _moment(text: str) -> str | None:
    """Return a date, or a moment with its zone, as it was typed. Raises UsageError."""
    if not text:
        return None
    with suppress(ValueError):
        date.fromisoformat(text)
        return text
    with suppress(ValueError):
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    raise UsageError(
        f"{text[:40]!r} is no moment to pause until",
        hint="Write a date, 2026-12-24, or a moment with its zone, 2026-12-24T06:00+01:00.",
    )
