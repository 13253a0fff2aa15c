"""The session's cookie, and that a request with it comes from our own pages.

Cookies go to every port of a host and know no instance, so the name has the instance's id in it.
Behind TLS it has the prefix ``__Host-`` (RFC 6265bis): no other host and no plain connection can
set it.
"""

from __future__ import annotations

import hmac
import re
from typing import Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from flask import Response, request

from serving.access.sessions import Session
from shared.errors import CrossSiteRefused, StalePage

CSRF_HEADER: Final = "X-CSRF-Token"
CSRF_FIELD: Final = "csrf_token"
# On what a page of ours sends by itself, while nobody may sit before it.
BACKGROUND_HEADER: Final = "X-Background"
BACKGROUND_FIELD: Final = "background"
# What the cookie with a restore's receipt is for.
RECEIPT_COOKIE: Final = "receipt"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# A form is small; an upload sends its token in the header.
FORM_MAX_BYTES: Final = 256 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
_OF_A_SESSION: Final = re.compile(r"^[0-9a-f]{64}$")


def cookie_name(purpose: str, instance_id: UUID, *, secure: bool) -> str:
    """Return the name of a cookie of this instance."""
    return f"{'__Host-' if secure else ''}secryn-{purpose}-{instance_id.hex[:12]}"


def read_cookie(purpose: str, instance_id: UUID) -> str | None:
    """Return a cookie's value in the present request; behind TLS only the one set behind TLS."""
    return request.cookies.get(cookie_name(purpose, instance_id, secure=request.is_secure)) or None


def set_cookie(
    response: Response,
    purpose: str,
    instance_id: UUID,
    value: str,
    *,
    max_age_s: int | None = None,
    same_site: Literal["Strict", "Lax"] = "Strict",
) -> None:
    """Set a cookie that no script reads and no other site sends."""
    response.set_cookie(
        cookie_name(purpose, instance_id, secure=request.is_secure),
        value,
        max_age=max_age_s,
        path="/",
        secure=request.is_secure,
        httponly=True,
        samesite=same_site,
    )


def clear_cookie(response: Response, purpose: str, instance_id: UUID) -> None:
    """Take a cookie back."""
    set_cookie(response, purpose, instance_id, "", max_age_s=0)


def is_background() -> bool:
    """Tell whether the present request was sent by a page and not by a person.

    A stream of events cannot carry a header of ours; what it accepts says what it is. Nor can a page
    that loads itself again without a script: it says so in its address.
    """
    return (
        BACKGROUND_HEADER in request.headers
        or request.headers.get("Accept") == "text/event-stream"
        or (request.method == "GET" and BACKGROUND_FIELD in request.args)
    )


def check_same_origin() -> None:
    """Refuse a request that a page of another origin sent. Raises CrossSiteRefused.

    A browser says where a form or a script comes from, and cannot be made not to. Another program
    says nothing, and has no cookie to be misused.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        sent_by = request.headers.get("Sec-Fetch-Site", "same-origin")
        if sent_by not in ("same-origin", "none"):
            raise CrossSiteRefused("the request was sent by a page of another site")
        return
    if urlsplit(origin).netloc != request.host:
        raise CrossSiteRefused("the request was sent by a page of another origin")


def check_csrf(session: Session) -> None:
    """Refuse an unsafe request without the session's own token.

    Raises CrossSiteRefused; StalePage for a form with the token of another session.
    """
    if request.method in SAFE_METHODS:
        return
    check_same_origin()
    offered, in_form = request.headers.get(CSRF_HEADER), False
    if offered is None and request.mimetype == _FORM:
        request.max_form_memory_size = FORM_MAX_BYTES
        offered, in_form = request.form.get(CSRF_FIELD), True
    check_token(session, offered, in_form=in_form)


def check_token(session: Session, offered: str | None, *, in_form: bool) -> None:
    """Refuse what was ``offered`` unless it is the session's token. Raises as check_csrf does."""
    if not hmac.compare_digest((offered or "").encode(), session.csrf_token.encode()):
        if in_form and _OF_A_SESSION.match(offered or ""):
            # A page of ours has sent it: no other origin got as far as here.
            raise StalePage("this page was made for another sign-in in this browser")
        raise CrossSiteRefused(
            f"the token of this session is missing: the header {CSRF_HEADER} or the form field "
            f"{CSRF_FIELD}"
        )
