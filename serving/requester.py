"""Who asks for something, whichever way it came in, and what every HTTP request body is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import g, request

from serving.caller import current_caller
from shared.errors import AccessError, UsageError


@dataclass(frozen=True)
class Requester:
    """Who asks: a name for the history, what it may do, and from where.

    ``allowed_recipients`` are those that an issuer on Kafka may name; None means any.
    """

    name: str
    permissions: frozenset[str]
    source: str
    correlation_id: str
    allowed_recipients: frozenset[str] | None = None

    def require(self, permission: str) -> None:
        """Raise AccessError without ``permission``."""
        if permission not in self.permissions:
            raise AccessError(f"the permission {permission} is missing")


def http_requester() -> Requester:
    """Return who makes the present HTTP request."""
    caller = current_caller()
    return Requester(
        caller.name, caller.permissions, f"http:{request.remote_addr}", str(g.correlation_id)
    )


def json_body() -> Any:
    """Return the request's body. Raises UsageError when it is not JSON."""
    document = request.get_json(silent=True)
    if document is None:
        raise UsageError("the body is not a JSON document")
    return document


def number_argument(name: str, default: int) -> int:
    """Return a whole number of the query string. Raises UsageError."""
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"{name} must be a whole number")
    return int(text)
