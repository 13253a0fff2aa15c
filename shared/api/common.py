"""What the documents of both services are made of."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from typing_extensions import TypedDict

# As text, for that is what they are in JSON.
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# RFC 3339, section 5.6, begins like this; pydantic would take a number of seconds as well.
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}")


def _written_out(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_AND_TIME.match(value)):
        return value
    raise ValueError("write a time with its zone, as 2026-11-24T13:00:00Z")


# A time that a caller names.
GivenTime = Annotated[AwareDatetime, BeforeValidator(_written_out)]

# A document that is told of in words alone.
Document = dict[str, Any]

PAGE_DEFAULT, PAGE_MAX = 100, 1000


class PageQuery(BaseModel):
    """How much of a list is wanted."""

    model_config = ConfigDict(frozen=True)

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT


class HistoryQuery(PageQuery):
    """Which page of a history is wanted: the one before the cursor ``before``."""

    before: Annotated[int, Field(ge=1, lt=1 << 63)] | None = None


class Fault(TypedDict):
    """Why something ended as it did: a code of docs/errors.md, what happened, what to do."""

    code: str
    message: str
    hint: NotRequired[str | None]


class Progress(TypedDict):
    """How far the present step is; ``total_bytes`` is an estimate."""

    done_bytes: NotRequired[int]
    total_bytes: NotRequired[int | None]
    rows: NotRequired[int]
    left_s: NotRequired[float | None]


class Running(TypedDict):
    """What is known of work while it runs, in the process that runs it."""

    step: NotRequired[str]
    progress: NotRequired[Progress]
    elapsed_s: NotRequired[float]
