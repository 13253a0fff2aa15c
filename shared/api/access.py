"""The documents about who may come in: sessions, API tokens, administrators."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from shared.api.common import Id, Time


class Session(TypedDict):
    """Who the caller is; of a web session also how it was proven, and the token of its forms."""

    name: str
    permissions: list[str]
    username: NotRequired[str]
    method: NotRequired[str]
    proven_at: NotRequired[Time | None]
    expires_at: NotRequired[Time]
    csrf_token: NotRequired[str]


class Administrator(TypedDict):
    """A new user who may do everything about backups; ``offset`` is its event's on the log."""

    user_id: Id
    username: str
    role_id: Id
    offset: int


class NewToken(TypedDict):
    """A new API token; ``token`` is shown this once."""

    token_id: Id
    name: str
    permissions: list[str]
    unattended: bool
    expires_at: Time
    token: str


class Token(TypedDict):
    """An API token: what it may do and when it was used, never itself."""

    token_id: Id
    name: str
    permissions: list[str]
    unattended: bool
    created_by: str
    created_at: Time
    expires_at: Time
    last_used_at: Time | None
    revoked_by: str | None
    revoked_at: Time | None
    state: str


class TokenList(TypedDict):
    """All API tokens, the newest first."""

    tokens: list[Token]
