"""Sign-in by an OpenID Connect provider, and proof there of who one is: out to it, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from markupsafe import Markup
from pydantic import BaseModel

from serving.access.attempts import attempt_in_flow, count_attempt, forgive
from serving.access.context import Access, present_visit
from serving.access.cookies import clear_cookie, read_cookie, set_cookie
from serving.access.devices import known_browser, remember
from serving.access.entry import current_session
from serving.access.flow import Flow, flow_held, flow_of
from serving.access.people import person_named
from serving.access.provider import Identity, Provider
from serving.access.sessions import begin_session, end_session, note_proof_elsewhere, open_row
from serving.access.sign_in import SignedIn
from serving.access.web import present_device, set_session
from serving.addresses import page_within
from serving.api.operation import operation
from serving.caller import open_to_all
from shared.audit import AuditEntry
from shared.errors import AccessError, SecrynError, SignInRefused, UnavailableError
from shared.settings import WebSettings

FLOW: Final = "oidc"
FLOW_S: Final = 600
BACKUPS: Final = "/admin"
RESTORES: Final = "/admin/restore"
# A redirect would still be part of the way from the provider, and carry no SameSite=Strict cookie.
BACK: Final = Markup(
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Signed in</title>'
    '<meta http-equiv="refresh" content="0;url={0}"><p><a href="{0}">Go on</a></p></html>'
)


class BeginQuery(BaseModel):
    """``fresh`` asks the provider to have the person prove again who it is; ``next`` leads back."""

    fresh: str | None = None
    next: str | None = None


class BackQuery(BaseModel):
    """What the provider sends the browser back with."""

    state: str | None = None
    code: str | None = None


class Ways:
    """Where the pages of both services are, seen from the one with the pages below ``prefix``.

    A provider sends everybody back to one of the two, whichever they came from.
    """

    def __init__(self, prefix: str, web: WebSettings) -> None:
        self._prefix = prefix
        self._web = web

    def following(self, flow: Flow) -> str:
        """Return the address of the page that a flow leads to."""
        return self._address(self._page(flow))

    def door(self, flow: Flow, code: str) -> str:
        """Return the address of the page that says why somebody was refused."""
        page = self._page(flow)
        prefix = _prefix_of(page)
        query = {"because": code} | ({} if page == f"{prefix}/home" else {"next": page})
        name = "prove" if flow.fresh and flow.session_id is not None else "sign-in"
        return self._address(f"{prefix}/{name}?{urlencode(query)}")

    def wanted(self, path: str | None) -> str:
        """Return a page of ours that may be gone back to: ``path``, or the first of this service."""
        return page_within(path, f"{self._prefix}/home")

    def _page(self, flow: Flow) -> str:
        return self.wanted(flow.following)

    def _address(self, path: str) -> str:
        prefix = _prefix_of(path)
        if prefix == self._prefix:
            return path
        return (self._web.restore_url if prefix == RESTORES else self._web.backup_url) + path


def _prefix_of(path: str) -> str:
    """Return which service answers a path, as a proxy that joins them tells it."""
    return RESTORES if path.partition("?")[0].startswith(f"{RESTORES}/") else BACKUPS


def create_oidc_routes(
    access: Access,
    key: bytes,
    provider: Provider,
    ways: Ways,
    on_refusal: Callable[[SecrynError], None],
) -> Blueprint:
    """Return the routes below /api/v1; ``on_refusal`` is told of who was not let in.

    ``key`` is the same in both services: what one of them has begun may end at the other.
    """
    routes = Blueprint("oidc", __name__, url_prefix="/api/v1")

    def began() -> tuple[Flow | None, Flow | None]:
        """Return the flow that the browser holds, and that of the present answer, if it is that one."""
        value = read_cookie(FLOW, access.instance_id) or ""
        return flow_held(key, value), flow_of(key, value, request.args.get("state", ""))

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
                held, flow = began()
                flow = flow or held or Flow("")
                return Response(status=303, headers={"Location": ways.door(flow, error.code)})

        return guarded

    @routes.get("/session/oidc")
    @operation("Sign in by the OpenID Connect provider", query=BeginQuery, status=303)
    @open_to_all
    @at_the_door
    def begin() -> Response:
        session = current_session()
        flow = Flow.begin(
            key,
            ways.wanted(request.args.get("next")),
            None if session is None else session.session_id,
            _browser(access),
            fresh="fresh" in request.args,
        )
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
        _, flow = began()
        if flow is None:
            raise SignInRefused("this browser began no such sign-in: begin again")
        signed_in = _enter(access, provider, flow, request.args.get("code", ""))
        page = BACK.format(ways.following(flow))
        response = Response(page, content_type="text/html; charset=utf-8")
        if signed_in is not None:
            set_session(response, access, signed_in)
        clear_cookie(response, FLOW, access.instance_id)
        return response

    return routes


def _browser(access: Access) -> bytes | None:
    device = present_device(access)
    if device is None:
        return None
    with access.transaction("looking for a browser") as conn:
        return known_browser(conn, device, access.clock.now())


def _enter(access: Access, provider: Provider, flow: Flow, code: str) -> SignedIn | None:
    """Begin a session for the user of the instance whom the provider names.

    Where that user's session is open in this browser it goes on, newly proven: None. One that has
    ended meanwhile is as none. Raises SignInRefused for a name that no enabled user has (nobody is
    made by signing in), and for a proof that another person has given.
    """
    visit, now = present_visit(), access.clock.now()
    attempt = attempt_in_flow(flow, visit.address)
    with access.transaction("counting a sign-in") as conn:
        count_attempt(conn, attempt, now)
    identity: Identity = provider.identity(flow, code)
    with access.transaction("signing in") as conn:
        forgive(conn, attempt, now)
        person = person_named(conn, identity.username) if "\x00" not in identity.username else None
        if person is None or not person.enabled:
            raise SignInRefused("nobody here has the name that the provider gives")
        before = open_row(access, conn, flow.session_id, visit)
        if before is not None and before.user_id == person.user_id:
            note_proof_elsewhere(access, conn, before, identity.proven_at)
            action, session_id, signed_in = "session.prove", before.session_id, None
        elif before is not None and flow.fresh:
            raise SignInRefused("the provider names another person than the one who is signed in")
        else:
            value, session = begin_session(access, conn, person, "oidc", identity.proven_at)
            action, session_id = "session.begin", session.session_id
            known = remember(conn, flow.browser, person.name, access.clock.now())
            signed_in = SignedIn(session, value, known)
        entry = AuditEntry(
            action, "success", person.name, "session", str(session_id),
            visit.source, details={"method": "oidc", "subject": identity.subject},
        )  # fmt: skip
        access.audit.record(conn, entry, visit.correlation_id)
    if before is not None and signed_in is not None:
        # Its cookie is replaced: nobody can end it any more.
        end_session(access, before.session_id, visit)
    return signed_in
