"""Sign-in by an OpenID Connect provider: out to it, and back."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import Final

from flask import Blueprint, Response, request
from pydantic import BaseModel

from serving.access.attempts import attempt_of, count_attempt, forgive
from serving.access.context import Access, present_visit
from serving.access.cookies import clear_cookie, read_cookie, set_cookie
from serving.access.people import person_named
from serving.access.provider import Flow, Identity, Provider, flow_of
from serving.access.sessions import begin_session
from serving.access.sign_in import SignedIn
from serving.access.web import set_session
from serving.api.operation import operation
from serving.caller import open_to_all
from shared.audit import AuditEntry
from shared.errors import AccessError, SecrynError, SignInRefused, UnavailableError

FLOW: Final = "oidc"
FLOW_S: Final = 600
# Of whichever service the browser came back to.
DOOR: Final = "/admin/sign-in"
# A redirect would still be part of the way from the provider, and carry no SameSite=Strict cookie.
BACK: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Signed in</title>'
    '<meta http-equiv="refresh" content="0;url=/admin/"><p><a href="/admin/">Go on</a></p></html>'
)


class BeginQuery(BaseModel):
    """``fresh`` asks the provider to have the person prove again who it is."""

    fresh: str | None = None


class BackQuery(BaseModel):
    """What the provider sends the browser back with."""

    state: str | None = None
    code: str | None = None


def create_oidc_routes(
    access: Access, provider: Provider, on_refusal: Callable[[SecrynError], None]
) -> Blueprint:
    """Return the routes below /api/v1; ``on_refusal`` is told of who was not let in."""
    routes = Blueprint("oidc", __name__, url_prefix="/api/v1")

    def at_the_door(view: Callable[[], Response]) -> Callable[[], Response]:
        """Bring a person who is refused back to the door, which says why; a program is told."""

        @functools.wraps(view)
        def guarded() -> Response:
            try:
                return view()
            except (AccessError, UnavailableError) as error:
                if not request.accept_mimetypes.accept_html:
                    raise
                on_refusal(error)
                return Response(status=303, headers={"Location": f"{DOOR}?because={error.code}"})

        return guarded

    @routes.get("/session/oidc")
    @operation("Sign in by the OpenID Connect provider", query=BeginQuery, status=303)
    @open_to_all
    @at_the_door
    def begin() -> Response:
        flow = Flow(secrets.token_urlsafe(32), fresh="fresh" in request.args)
        response = Response(status=303)
        response.headers["Location"] = provider.address(flow)
        # Lax: it comes back with the browser from the provider's page.
        set_cookie(
            response, FLOW, access.instance_id, flow.value, max_age_s=FLOW_S, same_site="Lax"
        )
        return response

    @routes.get("/session/oidc/callback")
    @operation(
        "Come back from the provider",
        query=BackQuery,
        gives="text/html",
        status=(200, 303),
        problems=(SignInRefused,),
    )
    @open_to_all
    @at_the_door
    def come_back() -> Response:
        value = read_cookie(FLOW, access.instance_id)
        flow = flow_of(value or "", request.args.get("state", ""))
        if value is None or flow is None:
            raise SignInRefused("this browser began no such sign-in: begin again")
        signed_in = _sign_in(access, provider, flow, request.args.get("code", ""))
        response = Response(BACK, content_type="text/html; charset=utf-8")
        set_session(response, access, signed_in)
        clear_cookie(response, FLOW, access.instance_id)
        return response

    return routes


def _sign_in(access: Access, provider: Provider, flow: Flow, code: str) -> SignedIn:
    """Begin a session for the user of the instance whom the provider names.

    Raises SignInRefused for a name that no enabled user has: nobody is made by signing in.
    """
    visit = present_visit()
    attempt = attempt_of(FLOW, visit.address)
    with access.transaction("counting a sign-in") as conn:
        count_attempt(conn, attempt, access.clock.now())
    identity: Identity = provider.identity(flow, code)
    with access.transaction("signing in") as conn:
        forgive(conn, attempt)
        person = person_named(conn, identity.username) if "\x00" not in identity.username else None
        if person is None or not person.enabled:
            raise SignInRefused("nobody here has the name that the provider gives")
        value, session = begin_session(access, conn, person, "oidc", identity.proven_at)
        entry = AuditEntry(
            "session.begin", "success", person.name, "session", str(session.session_id),
            visit.source, details={"method": session.method, "subject": identity.subject},
        )  # fmt: skip
        access.audit.record(conn, entry, visit.correlation_id)
    return SignedIn(session, value)
