"""What a list is asked for: its arguments, and the place where its next page begins."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import UsageError

NOT_A_CURSOR: Final = "is not a cursor of this list"

Q = TypeVar("Q", bound=BaseModel)


def parse_arguments(
    model: type[Q], arguments: Mapping[str, Sequence[str]], several: Collection[str]
) -> Q:
    """Read the arguments of a request; those of ``several`` may be given more than once.

    Raises UsageError, naming the one that is wrong.
    """
    repeated = sorted(
        name for name, given in arguments.items() if len(given) > 1 and name not in several
    )
    if repeated:
        raise UsageError(f"{repeated[0]} is given more than once")
    document = {
        name: list(given) if name in several else given[0] for name, given in arguments.items()
    }
    try:
        return model.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(
            f"{fault['loc'][0] if fault['loc'] else 'cursor'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"the list cannot be asked that: {faults}") from None


def encode_cursor(place: Sequence[Any]) -> str:
    """Return a place in a list as text, opaque to whoever is given it."""
    text = json.dumps(list(place), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("utf-8")).decode("ascii").rstrip("=")


def decode_cursor(cursor: str, parts: int) -> list[Any]:
    """Return the ``parts`` of the place that ``cursor`` names. Raises ValueError: it names none."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise ValueError(NOT_A_CURSOR) from None
    if not isinstance(place, list) or len(place) != parts:
        raise ValueError(NOT_A_CURSOR)
    return place
