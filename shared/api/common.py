"""What the documents of both services are made of."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

# As text, for that is what they are in JSON.
Id = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

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
