"""What may be asked of the operations: filters, pages by cursor, and the changes behind a position."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from backup_service.operations.fold import Kind, Outcome
from serving.paging import NOT_A_CURSOR, decode_cursor, encode_cursor
from shared.api.common import GivenTime

PAGE_DEFAULT: Final = 100
PAGE_MAX: Final = 1000
WAIT_MAX_S: Final = 30.0
SEVERAL: Final = ("kind", "outcome")
_MAX_BIGINT: Final = (1 << 63) - 1

Position = Annotated[int, Field(ge=0, le=_MAX_BIGINT)]
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]

_CONDITIONS: Final = {
    "kind": "kind = ANY(%(kind)s)",
    "outcome": "outcome = ANY(%(outcome)s)",
    "actor": "actor = %(actor)s",
    "subject": "subject = %(subject)s",
    "since": "started_at >= %(since)s",
    "until": "started_at < %(until)s",
    "after": "changed > %(after)s",
}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Filters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[tuple[Kind, ...], BeforeValidator(_as_list)] = ()
    outcome: Annotated[tuple[Outcome, ...], BeforeValidator(_as_list)] = ()
    actor: Name | None = None
    subject: Name | None = None
    since: GivenTime | None = None
    until: GivenTime | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT


class OperationsQuery(_Filters):
    """One page of the list, the newest first; begun at or after ``since``, before ``until``."""

    cursor: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _a_cursor(self) -> Self:
        if self.cursor is not None:
            _place(self.cursor)
        return self


class ChangesQuery(_Filters):
    """What changed behind the position ``after``; waited for up to ``wait_s`` when nothing has."""

    after: Position
    wait_s: Annotated[float, Field(ge=0, le=WAIT_MAX_S)] = 0.0


class FollowQuery(_Filters):
    """From which position on changes are told, those that the filters let through; ``limit`` a read."""

    after: Position

    def behind(self, position: int) -> ChangesQuery:
        """Return what asks for the changes behind ``position``."""
        return ChangesQuery.model_validate(self.model_dump() | {"after": position})


def cursor_behind(operation: dict[str, Any]) -> str:
    """Return the place behind an operation."""
    return encode_cursor([operation["started_at"].isoformat(), operation["position"]])


def _place(cursor: str) -> tuple[datetime, int]:
    started_at, position = decode_cursor(cursor, 2)
    if type(position) is not int or not 0 <= position <= _MAX_BIGINT:
        raise ValueError(NOT_A_CURSOR)
    if not isinstance(started_at, str):
        raise ValueError(NOT_A_CURSOR)
    time = datetime.fromisoformat(started_at)
    if time.tzinfo is None:
        raise ValueError(NOT_A_CURSOR)
    return time, position


def page_of(query: OperationsQuery) -> tuple[bytes, dict[str, Any]]:
    """Return the statement that reads one page, and one row more, with its values."""
    conditions, values = _conditions(query)
    if query.cursor is not None:
        values["started_at"], values["position"] = _place(query.cursor)
        conditions.append("(started_at, position) < (%(started_at)s, %(position)s)")
    return _select(conditions, "started_at DESC, position DESC"), values | {
        "limit": query.limit + 1
    }


def changes_of(query: ChangesQuery) -> tuple[bytes, dict[str, Any]]:
    """Return the statement that reads what changed, in its order, with its values."""
    conditions, values = _conditions(query)
    return _select(conditions, "changed"), values | {"limit": query.limit}


def _select(conditions: list[str], order: str) -> bytes:
    # Of our own words alone: what the caller gave is in the values.
    text = (
        f"SELECT * FROM backup.operations WHERE {' AND '.join(conditions) or 'true'} "
        f"ORDER BY {order} LIMIT %(limit)s"
    )
    return text.encode("ascii")


def _conditions(query: _Filters) -> tuple[list[str], dict[str, Any]]:
    values: dict[str, Any] = {}
    for name in _CONDITIONS:
        value = getattr(query, name, None)
        if value is not None and value != ():
            values[name] = [one.value for one in value] if name in SEVERAL else value
    return [_CONDITIONS[name] for name in values], values
