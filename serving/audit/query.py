"""What may be asked of an audit trail: filters, and pages by cursor."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from serving.paging import NOT_A_CURSOR, decode_cursor, encode_cursor
from shared.api.common import PAGE_DEFAULT, PAGE_MAX, GivenTime

_MAX_SEQ: Final = (1 << 31) - 1
Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
Action = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[a-z][a-z0-9_.]*$")]

_CONDITIONS: Final = {
    "actor": "actor = %(actor)s",
    "action": "(data #>> '{{api,operation}}' = %(action)s "
    "OR starts_with(data #>> '{{api,operation}}', %(action)s::text || '.'))",
    "outcome": "data ->> 'status' = initcap(%(outcome)s)",
    "resource_type": "data #>> '{{resources,0,type}}' = %(resource_type)s",
    "resource": "data #>> '{{resources,0,uid}}' = %(resource)s",
    "code": "data ->> 'status_code' = %(code)s",
    "correlation_id": "correlation_id = %(correlation_id)s",
    "since": "occurred_at >= %(since)s",
    "until": "occurred_at < %(until)s",
}


class AuditFilter(BaseModel):
    """Which entries; an ``action`` is one, or the first words of some: ``key`` for ``key.view``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: Name | None = None
    action: Action | None = None
    outcome: Literal["success", "failure"] | None = None
    resource_type: Name | None = None
    resource: Name | None = None
    code: Name | None = None
    correlation_id: Name | None = None
    since: GivenTime | None = None
    until: GivenTime | None = None

    def conditions(self) -> tuple[list[str], dict[str, Any]]:
        """Return the conditions in SQL, of our own words alone, and what the caller gave."""
        values = {name: getattr(self, name) for name in _CONDITIONS}
        given = {name: value for name, value in values.items() if value is not None}
        return [_CONDITIONS[name] for name in given], given


class AuditQuery(AuditFilter):
    """One page of the trail, the newest entry first; those at or after ``since``, before ``until``."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _a_cursor(self) -> Self:
        if self.cursor is not None:
            _place(self.cursor)
        return self

    @property
    def before(self) -> int | None:
        """Return the number of the entry that the page before ended with."""
        return None if self.cursor is None else _place(self.cursor)


class VerifyQuery(BaseModel):
    """A checkpoint that was kept elsewhere: the chain must lead through it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[int, Field(ge=1, le=_MAX_SEQ)] | None = None
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.size is None) != (self.head is None):
            raise ValueError("size and head are given together or not at all")
        return self


def cursor_behind(seq: int) -> str:
    """Return the place behind an entry."""
    return encode_cursor([seq])


def _place(cursor: str) -> int:
    (seq,) = decode_cursor(cursor, 1)
    if type(seq) is not int or not 1 <= seq <= _MAX_SEQ:
        raise ValueError(NOT_A_CURSOR)
    return seq
