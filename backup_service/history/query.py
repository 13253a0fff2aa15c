"""What may be asked of the history: filters, a fixed set of orders, and pages by cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from backup_service.history.row import folded
from serving.paging import NOT_A_CURSOR, decode_cursor, encode_cursor, parse_arguments
from shared.api.common import GivenTime

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
_MAX_BIGINT: Final = (1 << 63) - 1
_NEVER: Final = "-infinity"

Offset = Annotated[int, Field(ge=0, le=_MAX_BIGINT)]
SearchedText = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]


class State(StrEnum):
    """What becomes of a backup."""

    REQUESTED = "requested"
    RUNNING = "running"
    CREATED = "created"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PURGING = "purging"
    PURGED = "purged"


class KeyState(StrEnum):
    """What became of its one-time key; with an own recipient there was none."""

    WAITING = "waiting"
    VIEWED = "viewed"
    EXPIRED = "expired"
    OWN_RECIPIENT = "own_recipient"
    GONE = "gone"
    DESTROYED = "destroyed"


class Sort(StrEnum):
    """What the history can be sorted by; what is not there yet sorts lowest."""

    REQUESTED_AT = "requested_at"
    REQUESTED_BY = "requested_by"
    STATE = "state"
    KEY_STATE = "key_state"
    OFFSET = "offset"
    SIZE = "size_bytes"
    DURATION = "duration_s"
    PROVEN_AT = "proven_at"
    VERIFIED_AT = "verified_at"
    REHEARSED_AT = "rehearsed_at"
    PURGED_AT = "purged_at"


# Expression and type of each: the indexes of the table are of these very expressions.
_KEYS: Final = {
    Sort.REQUESTED_AT: ("requested_at", "timestamptz"),
    Sort.REQUESTED_BY: ("requested_by", "text"),
    Sort.STATE: ("state", "text"),
    Sort.KEY_STATE: ("coalesce(key_state, '')", "text"),
    Sort.OFFSET: ("coalesce(log_offset, -1)", "bigint"),
    Sort.SIZE: ("coalesce(size_bytes, -1)", "bigint"),
    Sort.DURATION: ("coalesce(duration_s, -1)", "double precision"),
    Sort.PROVEN_AT: ("coalesce(proven_at, '-infinity')", "timestamptz"),
    Sort.VERIFIED_AT: ("coalesce(verified_at, '-infinity')", "timestamptz"),
    Sort.REHEARSED_AT: ("coalesce(rehearsed_at, '-infinity')", "timestamptz"),
    Sort.PURGED_AT: ("coalesce(purged_at, '-infinity')", "timestamptz"),
}
# In the order in which they are written; each takes the query's field of the same name.
_CONDITIONS: Final = {
    "state": "state = ANY(%(state)s)",
    "key_state": "key_state = ANY(%(key_state)s)",
    "requested_by": "requested_by = %(requested_by)s",
    "requested_from": "requested_at >= %(requested_from)s",
    "requested_to": "requested_at < %(requested_to)s",
    "offset_from": "coalesce(log_offset, -1) >= %(offset_from)s",
    "offset_to": "coalesce(log_offset, -1) BETWEEN 0 AND %(offset_to)s - 1",
    "proven": "proven = %(proven)s",
    "held": "held = %(held)s",
    "text": "strpos(reason, %(text)s) > 0",
}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class HistoryQuery(BaseModel):
    """One page of the history. Ranges are half open: from the first, up to the second."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Annotated[tuple[State, ...], BeforeValidator(_as_list)] = ()
    key_state: Annotated[tuple[KeyState, ...], BeforeValidator(_as_list)] = ()
    requested_by: SearchedText | None = None
    requested_from: GivenTime | None = None
    requested_to: GivenTime | None = None
    offset_from: Offset | None = None
    offset_to: Offset | None = None
    proven: bool | None = None
    held: bool | None = None
    text: Annotated[SearchedText | None, Field(description="In the reason, in any case.")] = None
    sort: Sort = Sort.REQUESTED_AT
    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(min_length=1, max_length=500)] | None = None

    @model_validator(mode="after")
    def _a_cursor_of_this_order(self) -> Self:
        if self.cursor is not None:
            order_of(self).read(self.cursor)
        return self


@dataclass(frozen=True)
class Order:
    """An order of rows and the places in it: a place is a row's key, and its position."""

    sort: Sort
    descending: bool

    def cursor(self, key: object, position: int) -> str:
        """Return the place behind a row, for the next page; opaque to whoever is given it."""
        return encode_cursor([self.sort, self.descending, key, position])

    def read(self, cursor: str) -> tuple[object, int]:
        """Return the place that ``cursor`` names. Raises ValueError when it names none here."""
        sort, descending, key, position = decode_cursor(cursor, 4)
        if (sort, descending) != (self.sort.value, self.descending):
            raise ValueError("is of another order: ask for its first page")
        if type(position) is not int or not 0 <= position <= _MAX_BIGINT:
            raise ValueError(NOT_A_CURSOR)
        return self._key(key), position

    def _key(self, key: object) -> object:
        """Return a row's key from a cursor, if it can be one of this order's."""
        kind = _KEYS[self.sort][1]
        if kind == "text" and isinstance(key, str) and "\x00" not in key:
            return key
        if kind == "bigint" and type(key) is int and -1 <= key <= _MAX_BIGINT:
            return key
        if kind == "double precision" and type(key) in (int, float):
            return key
        if kind == "timestamptz" and isinstance(key, str):
            return key if key == _NEVER else datetime.fromisoformat(key)
        raise ValueError(NOT_A_CURSOR)


def order_of(query: HistoryQuery) -> Order:
    """Return the order that ``query`` asks for."""
    return Order(query.sort, query.order == "desc")


def parse_query(arguments: Mapping[str, Sequence[str]]) -> HistoryQuery:
    """Read the arguments of a request. Raises UsageError, naming the one that is wrong."""
    return parse_arguments(HistoryQuery, arguments, ("state", "key_state"))


def statement_of(query: HistoryQuery) -> tuple[bytes, dict[str, Any]]:
    """Return the statement that reads one page, and one row more, with its values."""
    key, kind = _KEYS[query.sort]
    conditions, values = _conditions(query)
    materialized = "MATERIALIZED" if _is_narrow(conditions) else "NOT MATERIALIZED"
    values["limit"] = query.limit + 1
    behind = ""
    if query.cursor is not None:
        values["key"], values["position"] = order_of(query).read(query.cursor)
        than = "<" if query.order == "desc" else ">"
        behind = f"WHERE ({key}, requested_position) {than} (%(key)s::{kind}, %(position)s) "
    order = query.order
    text = (
        f"WITH found AS {materialized} "
        f"(SELECT * FROM backup.backups WHERE {' AND '.join(conditions) or 'true'}), "
        "page AS MATERIALIZED "
        f"(SELECT backup_id, requested_position, {key} AS sort_key FROM found {behind}"
        f"ORDER BY {key} {order}, requested_position {order} LIMIT %(limit)s) "
        f"SELECT {_told('sort_key', kind)}, requested_position, document "
        "FROM page JOIN backup.backup_documents USING (backup_id) "
        f"ORDER BY sort_key {order}, requested_position {order}"
    )
    # Of our own words alone: what the caller gave is in the values.
    return text.encode("ascii"), values


def _conditions(query: HistoryQuery) -> tuple[list[str], dict[str, Any]]:
    asked = {
        name: value
        for name in _CONDITIONS
        if (value := getattr(query, name)) is not None and value != ()
    }
    values = {name: _value_of(name, value) for name, value in asked.items()}
    return [_CONDITIONS[name] for name in asked], values


def _is_narrow(conditions: Sequence[str]) -> bool:
    """Tell whether rows are best found before they are sorted.

    PostgreSQL knows how many rows one filter leaves, but for a text; how many two leave together it
    only guesses, and then walks an index in order through all that do not match.
    """
    return len(conditions) > 1 or _CONDITIONS["text"] in conditions


def _told(key: str, kind: str) -> str:
    # An infinite time has no datetime; as text it comes back as it went.
    return f"{key}::text" if kind == "timestamptz" else key


def _value_of(name: str, value: Any) -> Any:
    if name in ("state", "key_state"):
        return [one.value for one in value]
    return folded(value) if name == "text" else value
