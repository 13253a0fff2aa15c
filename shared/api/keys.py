"""The documents about one-time keys; none holds a key."""

from __future__ import annotations

from typing_extensions import TypedDict

from shared.api.common import Id, Time


class WaitingKey(TypedDict):
    """A key that waits: past its time with ``held_over``; without its own key not ``readable``."""

    backup_id: Id
    waits_since: Time
    expires_at: Time
    left_s: int
    held_over: bool
    readable: bool


class WaitingKeys(TypedDict):
    """All keys that wait, the first to expire first, and what is to be said of them."""

    waiting: list[WaitingKey]
    count: int
    next_expiry: Time | None
    held_over: int
    unreadable: int
    expired_unseen: int


class StoredKey(TypedDict):
    """That a key is stored; ``forgotten``: until now its viewing could be repeated."""

    backup_id: Id
    forgotten: bool
