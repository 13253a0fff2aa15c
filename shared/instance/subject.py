"""What an event is about, in words that may be shown: an id and a name, never a value."""

from __future__ import annotations

from typing import Any, Final

from shared.instance.events import EVENT_TYPES, TYPE_PREFIX, InstanceEvent
from shared.instance.workingset import TABLES

# Of an event whose type is none of ours, and of actors beyond those that are counted by name.
UNKNOWN: Final = "(unknown)"
OTHERS: Final = "(others)"
# A count by actor names so many of them: whoever writes to a log chooses what they are called.
MOST_ACTORS: Final = 1000

_TABLES: Final = {name.removesuffix("s"): name for name in TABLES}
_NAMES: Final = ("name", "username", "subject")
_SHOWN: Final = ("permission", "role_id", "user_id")


def kind_of(ce_type: str) -> str:
    """Return the type of an event as it is shown; one that is not known is not repeated."""
    return ce_type if ce_type in EVENT_TYPES else UNKNOWN


def table_of(kind: str) -> str | None:
    """Return the table that holds what events of ``kind`` are about."""
    return _TABLES.get(kind.removeprefix(TYPE_PREFIX).partition(".")[0])


def subject_of(event: InstanceEvent) -> dict[str, Any]:
    """Return ``id`` and ``name`` of what ``event`` changes, as far as the event itself says."""
    shown: dict[str, Any] = {"id": _text(getattr(event, "id", None)), "name": None}
    for field in _NAMES:
        shown["name"] = shown["name"] or getattr(event, field, None)
    shown |= {field: _text(getattr(event, field)) for field in _SHOWN if hasattr(event, field)}
    return shown


def _text(value: object) -> str | None:
    return None if value is None else str(value)
