"""The end of a sign-in and of a sign-out: what stands in the answer."""

from __future__ import annotations

from flask import Response

from serving.access.context import Access, present_visit
from serving.access.cookies import clear_cookie, read_cookie, set_cookie
from serving.access.devices import DEVICE, KEPT
from serving.access.entry import SESSION, require_session
from serving.access.sessions import end_session
from serving.access.sign_in import SignedIn


def set_session(response: Response, access: Access, signed_in: SignedIn) -> None:
    """Give the browser the cookie of a session that has just begun, and the one it is known by."""
    set_cookie(response, SESSION, access.instance_id, signed_in.cookie)
    if signed_in.device is not None:
        kept_s = int(KEPT.total_seconds())
        set_cookie(response, DEVICE, access.instance_id, signed_in.device, max_age_s=kept_s)


def present_device(access: Access) -> str | None:
    """Return the cookie by which the present request's browser may be known, if it has one."""
    return read_cookie(DEVICE, access.instance_id)


def sign_out(response: Response, access: Access) -> None:
    """End the session of the present request and take its cookie back."""
    end_session(access, require_session().session_id, present_visit())
    clear_cookie(response, SESSION, access.instance_id)
