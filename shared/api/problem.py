"""The one form of every refusal: an RFC 9457 problem with the members of the error catalogue."""

from __future__ import annotations

from typing_extensions import TypedDict


class Problem(TypedDict):
    """A problem; ``code`` is stable, ``hint`` says what to do, ``retryable`` whether to wait."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    retryable: bool
    correlation_id: str
