"""One way to an OpenID Connect provider and back, held by the browser that goes it.

``state``, ``nonce`` and the code verifier are derived from the value of one cookie: there is nothing
to store, and an answer counts for the browser that asked. The cookie also says where the person was,
which session of the browser was open, and whether somebody has signed in there before (devices.py):
those cookies do not come along from another site. A tag under a key of the place, which both services have, says that one of them has made it: nobody
else makes flows, or names a session in one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

# What the key of flows is derived from the place's root key for.
FLOW_KEY: Final = "secryn sign-in flows v1"
_RANDOM_BYTES: Final = 32
# A browser keeps some 4,000 bytes of a cookie, and drops a longer one: of these what is carried has so many.
_LONGEST: Final = 3000


@dataclass(frozen=True)
class Flow:
    """One way to the provider and back, from the value in the browser's cookie."""

    value: str = field(repr=False)
    fresh: bool = False

    @classmethod
    def begin(
        cls,
        key: bytes,
        following: str,
        session_id: UUID | None = None,
        browser: bytes | None = None,
        *,
        fresh: bool = False,
    ) -> Flow:
        """Return a new one that leads to the page ``following``; one too long for it is left out."""
        named = (
            None if session_id is None else str(session_id),
            None if browser is None else browser.hex(),
        )
        text = _encoded(following, *named)
        if len(text) > _LONGEST:
            text = _encoded(None, *named)
        body = f"{secrets.token_urlsafe(_RANDOM_BYTES)}.{text}"
        return cls(f"{body}.{_tag(key, body)}", fresh)

    @property
    def following(self) -> str | None:
        """Return the page that the person was on its way to, as the browser says it."""
        found = self._carried(0)
        return found if isinstance(found, str) else None

    @property
    def session_id(self) -> UUID | None:
        """Return the session that was open when it began."""
        try:
            return UUID(self._carried(1))
        except (ValueError, AttributeError, TypeError):
            return None

    @property
    def browser(self) -> bytes | None:
        """Return the digest by which the browser was known when it began."""
        try:
            return bytes.fromhex(self._carried(2))
        except (ValueError, TypeError):
            return None

    def derived(self, purpose: str) -> str:
        """Return the secret of this flow for one purpose."""
        text = f"{purpose} {'fresh' if self.fresh else ''}".encode()
        key = self.value.encode("utf-8", "surrogateescape")
        return hmac.new(key, text, hashlib.sha256).hexdigest()

    def _carried(self, place: int) -> Any:
        text = self.value.partition(".")[2].partition(".")[0]
        try:
            found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return found[place]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None


def flow_held(key: bytes, value: str) -> Flow | None:
    """Return the flow in a cookie's value, or None for a value that no service of the place made."""
    body, _, tag = value.rpartition(".")
    if not hmac.compare_digest(_tag(key, body).encode(), tag.encode("utf-8", "surrogateescape")):
        return None
    return Flow(value)


def flow_of(key: bytes, value: str, state: str) -> Flow | None:
    """Return the flow that ``state`` belongs to, or None when the browser began no such one."""
    held = flow_held(key, value)
    if held is None:
        return None
    for flow in (held, replace(held, fresh=True)):
        if hmac.compare_digest(flow.derived("state").encode(), state.encode()):
            return flow
    return None


def _encoded(*carried: str | None) -> str:
    text = json.dumps(carried, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


def _tag(key: bytes, body: str) -> str:
    return hmac.new(key, body.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
