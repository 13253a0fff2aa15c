"""Know a request by its cookie."""

from __future__ import annotations

from flask import g, request

from serving.access.context import Access, present_visit
from serving.access.cookies import check_csrf, check_same_origin, is_background, read_cookie
from serving.access.sessions import ENDINGS, Ended, Session, find_session
from serving.caller import Caller
from shared.errors import SessionEnded, UsageError

SESSION = "session"


def enter_by_cookie(access: Access, *, is_open: bool, streams_form: bool = False) -> Caller | None:
    """Return the caller that the cookie's session stands for, or None.

    The session is in ``g.session`` for the rest of the request. With ``streams_form`` the token in
    the body of a form with a file is left to the view.

    Raises SessionEnded, CrossSiteRefused, StalePage, PostgresUnavailable.
    """
    g.session, g.ended_because = None, None
    value = read_cookie(SESSION, access.instance_id)
    if value is None:
        return None
    found = find_session(access, value, present_visit(), used=not is_background())
    if isinstance(found, Ended):
        g.ended_because = found.because
        raise SessionEnded(f"the session has ended: {ENDINGS[found.because]}")
    if found is None:
        return None
    g.session = found
    g.caller = found.caller
    if streams_form and request.mimetype == "multipart/form-data":
        check_same_origin()
    elif not is_open:
        check_csrf(found)
    return found.caller


def current_session() -> Session | None:
    """Return the web session of the present request, or None for a token."""
    found = getattr(g, "session", None)
    return found if isinstance(found, Session) else None


def ended_because() -> str | None:
    """Return why the session of the present request's cookie has ended: one of ``ENDINGS``, or None.

    Only whoever has the cookie of a session learns that there was one.
    """
    found = getattr(g, "ended_because", None)
    return found if isinstance(found, str) else None


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
