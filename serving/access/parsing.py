"""A request's body as a typed document; what it holds is in no message."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import UsageError

M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], document: Any) -> M:
    """Read ``document``. Raises UsageError, naming the fields and never their values."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        fields = sorted({str(fault["loc"][0]) for fault in error.errors() if fault["loc"]})
        raise UsageError(f"refused: {', '.join(fields) or 'not a JSON object'}") from None
