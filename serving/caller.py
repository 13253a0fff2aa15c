"""Who calls: the operator's token now, sessions and API tokens beside it later."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from flask import current_app, g

from shared.clock import Clock
from shared.errors import AccessError
from shared.secretfiles import read_secret_file

PERMISSIONS = frozenset(
    {
        "create",
        "download",
        "view_key",
        "restore",
        "approve",
        "configure",
        "hold",
        "delete",
        "read_audit",
        "read",
    }
)

# What no role of the instance gives: it is the machine's own, or that of a place without users.
LOCAL_PERMISSIONS = frozenset({"create_administrator"})

# The name of whoever holds the machine's own token.
OPERATOR = "operator"

# Beside whoever reads: who restores or approves sees what there is of restores and rehearsals.
WATCHERS = ("restore", "approve")

# What a restore's receipt may do, with that one restore.
RECEIPT = frozenset({"watch_one", "undo_one"})

# Where an application keeps how it checks a proof of identity.
PROOF = "secryn-proof"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: a name for the audit trail and what it may do.

    ``only`` is the one thing that it may do that with; None means all of them. ``proven_at`` is
    when it last proved who it is, None for whoever cannot; ``unattended`` marks an API token that
    was made to work where nobody is there to prove anything.
    """

    name: str
    permissions: frozenset[str]
    only: str | None = None
    proven_at: datetime | None = None
    unattended: bool = False


class Authenticator(Protocol):
    """Tell who presents a token."""

    def authenticate(self, token: str) -> Caller | None:
        """Return the caller, or None for a token that opens nothing."""


class FirstOf:
    """Several ways to be known, in their order."""

    def __init__(self, *ways: Authenticator) -> None:
        self._ways = ways

    def authenticate(self, token: str) -> Caller | None:
        """Return the caller that the first way knows, or None."""
        return next((caller for way in self._ways if (caller := way.authenticate(token))), None)


class OperatorToken:
    """The token that lies in a 0600 file of the place; it may do everything, and is proof itself."""

    def __init__(self, token_file: Path, clock: Clock) -> None:
        # Only the digest stays in memory: a dump of this process shows no token.
        self._digest = hashlib.sha256(read_secret_file(token_file)).digest()
        self._clock = clock

    def authenticate(self, token: str) -> Caller | None:
        """Compare in constant time and return the operator, or None."""
        offered = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(offered, self._digest):
            return Caller(OPERATOR, PERMISSIONS | LOCAL_PERMISSIONS, proven_at=self._clock.now())
        return None


def current_caller() -> Caller:
    """Return who makes the present request. Raises AccessError outside of one."""
    caller = getattr(g, "caller", None)
    if not isinstance(caller, Caller):
        raise AccessError("this request has no caller")
    return caller


def open_to_all(view: Callable[P, R]) -> Callable[P, R]:
    """Let everybody through to the decorated view: whoever signs in is nobody yet."""
    view.__dict__["open_to_all"] = True
    return view


def streams_form(view: Callable[P, R]) -> Callable[P, R]:
    """Let the decorated view read a form with a file itself: its first field is the session's token.

    The view has to compare it (serving/access/cookies.py) before it does anything.
    """
    view.__dict__["streams_form"] = True
    return view


def any_caller(view: Callable[P, R]) -> Callable[P, R]:
    """Let every caller that is known through to the decorated view, whatever it may do."""
    view.__dict__["any_caller"] = True
    return view


def requires(
    permission: str,
    or_one: str | None = None,
    *,
    also: Collection[str] = (),
    proven: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only callers that hold ``permission``, or one of ``also``, through to the decorated view.

    With ``or_one`` also those that hold that one, for one thing alone: the view compares which.
    With ``proven`` who it is must have been proved a short while ago; a receipt is its own proof.
    """
    enough = frozenset({permission, *also})
    if not enough <= PERMISSIONS | LOCAL_PERMISSIONS or (
        or_one is not None and or_one not in RECEIPT
    ):
        raise ValueError(f"no such permission: {permission}, {also}, {or_one}")

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            held = current_caller().permissions
            if enough.isdisjoint(held) and (or_one is None or or_one not in held):
                raise AccessError(f"the permission {permission} is missing")
            if proven and not enough.isdisjoint(held):
                current_app.extensions[PROOF]()
            return view(*args, **kwargs)

        guarded.__dict__ |= {
            "required_permission": " or ".join((permission, *also)), "or_one": or_one,
            "needs_proof": proven,
        }  # fmt: skip
        return guarded

    return decorate
