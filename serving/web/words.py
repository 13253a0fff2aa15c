"""Numbers, times and states as a person reads them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")
_SPANS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def size(value: float | None) -> str:
    """Return a number of bytes with a unit: ``1.4 MB``."""
    if value is None:
        return "unknown"
    number, unit = float(value), 0
    while number >= 999.5 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:,.0f} {_UNITS[unit]}" if unit < 2 else f"{number:,.1f} {_UNITS[unit]}"


def count(value: int | None, noun: str | None = None) -> str:
    """Return a number with its noun, plural where it is: ``1 event``, ``2,000 events``."""
    if value is None:
        return "unknown"
    if noun is None:
        return f"{value:,}"
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def span(seconds: float | None) -> str:
    """Return a length of time in its largest unit, rounded: ``3 minutes``, ``0.4 seconds``."""
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} seconds"
    for length, noun in _SPANS:
        if seconds >= length * 1.5 or length == 1:
            return count(round(seconds / length), noun)
    raise AssertionError("the last unit fits every length")


def moment(value: str | datetime | None) -> Markup:
    """Return a time as an element that programs can read, too; UTC, to the minute."""
    if value is None:
        return Markup("<span class='none'>never</span>")
    at = (value if isinstance(value, datetime) else datetime.fromisoformat(value)).astimezone(UTC)
    return Markup("<time datetime='{}' title='{}'>{}</time>").format(
        at.isoformat(timespec="seconds"),
        at.strftime("%A, %-d %B %Y, %H:%M:%S UTC"),
        at.strftime("%-d %b %Y, %H:%M UTC"),
    )


def ago(value: str | datetime, now: datetime) -> str:
    """Return how long before ``now`` it was: ``3 minutes ago``."""
    at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    passed = (now - at).total_seconds()
    return "just now" if passed < 10 else f"{span(passed)} ago"


def short(identity: str | None) -> str:
    """Return the beginning of an id, enough to tell it from its neighbours."""
    return "" if identity is None else identity[:8]


def code(value: str) -> Markup:
    """Return a dotted code that breaks between its words alone; put it where ``words`` is set."""
    return Markup(".<wbr>").join(value.split("."))


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "size": size,
    "count_of": count,
    "span": span,
    "moment": moment,
    "short": short,
    "code": code,
}
