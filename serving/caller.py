"""Who calls: the operator's token now, sessions and API tokens beside it later."""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from flask import g

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

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Caller:
    """An authenticated caller: a name for the audit trail and what it may do."""

    name: str
    permissions: frozenset[str]


class Authenticator(Protocol):
    """Tell who presents a token."""

    def authenticate(self, token: str) -> Caller | None:
        """Return the caller, or None for a token that opens nothing."""


class OperatorToken:
    """The token that lies in a 0600 file of the place; it may do everything."""

    def __init__(self, token_file: Path) -> None:
        # Only the digest stays in memory: a dump of this process shows no token.
        self._digest = hashlib.sha256(read_secret_file(token_file)).digest()

    def authenticate(self, token: str) -> Caller | None:
        """Compare in constant time and return the operator, or None."""
        offered = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if hmac.compare_digest(offered, self._digest):
            return Caller(name="operator", permissions=PERMISSIONS)
        return None


def current_caller() -> Caller:
    """Return who makes the present request. Raises AccessError outside of one."""
    caller = getattr(g, "caller", None)
    if not isinstance(caller, Caller):
        raise AccessError("this request has no caller")
    return caller


def requires(permission: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only callers that hold ``permission`` through to the decorated view."""
    if permission not in PERMISSIONS:
        raise ValueError(f"no such permission: {permission}")

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            if permission not in current_caller().permissions:
                raise AccessError(f"the permission {permission} is missing")
            return view(*args, **kwargs)

        guarded.__dict__["required_permission"] = permission
        return guarded

    return decorate
