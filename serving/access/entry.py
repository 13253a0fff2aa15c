"""Know a request by its cookie."""

from __future__ import annotations

from flask import g

from serving.access.context import Access, present_visit
from serving.access.cookies import check_csrf, read_cookie
from serving.access.sessions import ENDINGS, Ended, Session, find_session
from serving.caller import Caller
from shared.errors import SessionEnded, UsageError

SESSION = "session"


def enter_by_cookie(access: Access, *, is_open: bool) -> Caller | None:
    """Return the caller that the cookie's session stands for, or None.

    The session is in ``g.session`` for the rest of the request.

    Raises SessionEnded, CrossSiteRefused, StalePage, PostgresUnavailable.
    """
    g.session = None
    value = read_cookie(SESSION, access.instance_id)
    if value is None:
        return None
    found = find_session(access, value, present_visit())
    if isinstance(found, Ended):
        raise SessionEnded(f"the session has ended: {ENDINGS[found.because]}")
    if found is None:
        return None
    g.session = found
    g.caller = found.caller
    if not is_open:
        check_csrf(found)
    return found.caller


def current_session() -> Session | None:
    """Return the web session of the present request, or None for a token."""
    found = getattr(g, "session", None)
    return found if isinstance(found, Session) else None


def require_session() -> Session:
    """Return the web session of the present request. Raises UsageError for a token."""
    found = current_session()
    if found is None:
        raise UsageError("this is for web sessions: a token has nothing to prove or to end")
    return found


def csrf_token() -> str:
    """Return what goes into every form as the hidden field ``csrf_token``; "" without a session."""
    found = current_session()
    return found.csrf_token if found is not None else ""
