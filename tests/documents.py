"""What a client answered, as tests look at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def plain(document: Mapping[str, Any] | None) -> Json:
    """Return an answer as a plain object: a test looks at fields that only some states have."""
    assert document is not None
    return dict(document)
