"""Who asks for something, whichever way it came in, and what every HTTP request body is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from serving.caller import current_caller
from shared.archive.age import recipient_fingerprint
from shared.errors import (
    AccessError,
    MediaTypeUnsupported,
    ProofNeeded,
    UsageError,
    ValueTooLarge,
)

# The largest is a command to restore: a sealed key in hex.
BODY_MAX_BYTES = 1024 * 1024
JSON = "application/json"
# What the name of one who signs commands begins with.
ISSUER_PREFIX = "issuer:"


@dataclass(frozen=True)
class Requester:
    """Who asks: a name for the history, what it may do, and from where.

    ``allowed_recipients`` are those that an issuer on Kafka may name; None means any.
    ``proven_at`` and ``unattended`` are the caller's; an issuer on Kafka has neither.
    """

    name: str
    permissions: frozenset[str]
    source: str
    correlation_id: str
    allowed_recipients: frozenset[str] | None = None
    proven_at: datetime | None = None
    unattended: bool = False

    def require(self, permission: str) -> None:
        """Raise AccessError without ``permission``."""
        if permission not in self.permissions:
            raise AccessError(f"the permission {permission} is missing")

    def may_name(self, recipients: Collection[str], now: datetime, proof_max_age_s: int) -> None:
        """Refuse who may not name ``recipients``: naming one is reading everything.

        That takes what viewing a key takes. An issuer on Kafka has proved who it is by its
        signature, and names only those on its list: of recipients, or of their fingerprints.

        Raises AccessError, ProofNeeded.
        """
        if not recipients:
            return
        if "view_key" not in self.permissions:
            raise AccessError("naming a recipient takes the permission view_key")
        if self.allowed_recipients is None:
            self.require_proof(now, proof_max_age_s)
            return
        for recipient in recipients:
            fingerprint = recipient_fingerprint(recipient)
            if self.allowed_recipients.isdisjoint({recipient, fingerprint}):
                raise AccessError(
                    f"{self.name} may not name the recipient {fingerprint}",
                    hint="An issuer names only the recipients on its list in the issuers file.",
                )

    def require_proof(self, now: datetime, max_age_s: int) -> None:
        """Raise ProofNeeded unless it proved who it is within ``max_age_s``, or may go without.

        A time ahead of ``now`` counts like one as far behind it: clocks of replicas differ.
        """
        if self.unattended:
            return
        if self.proven_at is None:
            raise ProofNeeded(f"{self.name} has not proved who that is")
        if abs(now - self.proven_at) > timedelta(seconds=max_age_s):
            raise ProofNeeded(f"{self.name} last proved who that is more than {max_age_s} s ago")


def http_requester() -> Requester:
    """Return who makes the present HTTP request."""
    caller = current_caller()
    return Requester(
        caller.name,
        caller.permissions,
        f"http:{request.remote_addr}",
        str(g.correlation_id),
        proven_at=caller.proven_at,
        unattended=caller.unattended,
    )


def json_body() -> Any:
    """Return the request's body.

    Raises UsageError when it is not JSON, MediaTypeUnsupported when it does not say that it is,
    ValueTooLarge.
    """
    if request.mimetype != JSON:
        raise MediaTypeUnsupported(f"the body must be {JSON}")
    request.max_content_length = BODY_MAX_BYTES
    try:
        document = request.get_json(silent=True)
    except RequestEntityTooLarge:
        raise ValueTooLarge(
            f"a request's body may have {BODY_MAX_BYTES:,} bytes", hint="Send a smaller document."
        ) from None
    except RecursionError:
        document = None
    if document is None:
        raise UsageError("the body is not a JSON document")
    return document


def number_argument(name: str, default: int) -> int:
    """Return a whole number of the query string. Raises UsageError."""
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError(f"{name} must be a whole number")
    return int(text)
