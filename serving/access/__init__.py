"""Who may come in: web sessions, API tokens, and what protects them.

For a page that shows a form:

    csrf_token()                        # the hidden field `csrf_token` of every form
    current_session()                   # who is signed in; None for a token
    signed_in = sign_in(access, username, password, present_visit(), present_device(access))
    set_session(response, access, signed_in)   # the cookie
    prove(access, require_session(), password, present_visit())
    sign_out(response, access)
    check_same_origin()                 # first thing in a view that is @open_to_all and unsafe

A view is ``@requires("...")``, ``@any_caller`` or ``@open_to_all`` (serving/caller.py); without
one of them the test of every route fails. Unsafe requests with a cookie are checked before the
view: the field or the header ``X-CSRF-Token``, and where they come from. A session that has ended
raises SessionEnded, whose message says why; who is not signed in, NotAuthenticated.
"""

from serving.access.context import Access, Visit, present_visit
from serving.access.cookies import CSRF_FIELD, CSRF_HEADER, check_same_origin
from serving.access.entry import (
    csrf_token,
    current_session,
    ended_because,
    enter_by_cookie,
    require_session,
)
from serving.access.sessions import Session
from serving.access.sign_in import SignedIn, prove, sign_in
from serving.access.web import present_device, set_session, sign_out

__all__ = [
    "CSRF_FIELD",
    "CSRF_HEADER",
    "Access",
    "Session",
    "SignedIn",
    "Visit",
    "check_same_origin",
    "csrf_token",
    "current_session",
    "ended_because",
    "enter_by_cookie",
    "present_device",
    "present_visit",
    "prove",
    "require_session",
    "set_session",
    "sign_in",
    "sign_out",
]
