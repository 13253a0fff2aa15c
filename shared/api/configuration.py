"""The document of a standing setting."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from shared.api.common import Time


class Configured(TypedDict):
    """A standing setting as it is, from where it came, and whether it waits for a word."""

    name: str
    value: dict[str, Any]
    etag: str
    origin: str
    confirmed: bool
    paused: bool
    awaits_confirmation: bool
    changed_at: Time | None
    changed_by: str | None
    fault: str | None
