"""The end of a sign-in and of a sign-out: what stands in the answer."""

from __future__ import annotations

from flask import Response

from serving.access.context import Access, present_visit
from serving.access.cookies import clear_cookie, set_cookie
from serving.access.entry import SESSION, require_session
from serving.access.sessions import end_session
from serving.access.sign_in import SignedIn


def set_session(response: Response, access: Access, signed_in: SignedIn) -> None:
    """Give the browser the cookie of a session that has just begun."""
    set_cookie(response, SESSION, access.instance_id, signed_in.cookie)


def sign_out(response: Response, access: Access) -> None:
    """End the session of the present request and take its cookie back."""
    end_session(access, require_session(), present_visit())
    clear_cookie(response, SESSION, access.instance_id)
