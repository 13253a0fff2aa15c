"""The frame of every page: where it stands, what surrounds it, and how a refusal looks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import structlog
from flask import (
    Blueprint,
    Flask,
    Response,
    g,
    make_response,
    redirect,
    render_template,
    request,
    send_from_directory,
)
from jinja2 import StrictUndefined
from markupsafe import Markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from serving.access import CSRF_FIELD, Access, csrf_token, current_session, ended_because
from serving.caller import WATCHERS, any_caller, current_caller, open_to_all
from serving.web.entrance import add_entrance, came_from, door, prove_first
from serving.web.words import FILTERS
from shared.errors import (
    NotAuthenticated,
    NotFoundError,
    ProofNeeded,
    SecrynError,
    SessionEnded,
    StalePage,
    UsageError,
)
from shared.settings import PlaceSettings, WebSettings

log = structlog.get_logger(__name__)

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
# Nothing inline, nothing from elsewhere; a page that is framed shows nothing.
CONTENT_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_READ: Final = frozenset({"read"})
_CACHED: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Entry:
    """One entry of the navigation: where it leads, and which permissions suffice to see it.

    Whoever holds ``unless`` finds it on another page.
    """

    name: str
    title: str
    url: str
    permissions: frozenset[str]
    unless: str | None = None


@dataclass(frozen=True)
class Frame:
    """What surrounds the pages of one service, below ``prefix``."""

    prefix: str
    place: PlaceSettings
    web: WebSettings
    on_refusal: Callable[[SecrynError], None]

    def entries(self) -> list[Entry]:
        """Return the navigation for whoever looks at the page."""
        backup, restore = self.web.backup_url, self.web.restore_url
        known = (
            Entry("backups", "Backups", f"{backup}/admin/backups", _READ),
            Entry(
                "new", "New backup", f"{backup}/admin/backups/new", frozenset({"create"}), "read"
            ),
            Entry("schedule", "Schedule", f"{backup}/admin/schedule", _READ),
            Entry("operations", "Operations", f"{backup}/admin/operations", _READ),
            Entry(
                "restore", "Restore", f"{restore}/admin/restore", frozenset({"restore", "approve"})
            ),
            Entry("audit", "Audit", f"{backup}/admin/audit", frozenset({"read_audit"})),
        )
        caller = getattr(g, "caller", None)
        held = frozenset[str]() if caller is None else caller.permissions
        return [
            entry
            for entry in known
            if not entry.permissions.isdisjoint(held) and entry.unless not in held
        ]

    def first_page(self) -> BaseResponse:
        """Lead to the first page that the caller may see; say so where there is none."""
        only = current_caller().only
        if only is not None:
            # A receipt: of this one restore.
            return redirect(f"{self.web.restore_url}/admin/restore/restores/{only}", 303)
        entries = self.entries()
        if entries:
            return redirect(entries[0].url, 303)
        return make_response(render_template("web/nothing.html"))

    def pages(self, name: str, module: str) -> Blueprint:
        """Return a blueprint for pages of ``module``, whose errors are pages as well."""
        pages = Blueprint(name, module, url_prefix=self.prefix, template_folder="templates")
        self._answer_errors(pages)
        return pages

    def attach(self, app: Flask, access: Access) -> None:
        """Add the frame to ``app``: its templates, its files, what every page is answered with."""
        versions = {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            for file in STATIC.iterdir()
        }
        shared = self.pages("web", __name__)

        @shared.get("/static/<name>", endpoint="asset")
        @open_to_all
        def asset(name: str) -> Response:
            response = send_from_directory(STATIC, name)
            response.headers["Cache-Control"] = _CACHED
            return response

        @shared.get("/home", endpoint="home")
        @any_caller
        def home() -> BaseResponse:
            return self.first_page()

        @shared.get("/<path:rest>", endpoint="nowhere")
        @any_caller
        def nowhere(rest: str) -> Response:
            # What was asked for is not repeated: a page that is not there may be a token.
            raise NotFoundError("there is no such page here")

        add_entrance(shared, access, self.prefix, self.on_refusal)

        @app.get("/")
        @open_to_all
        def root() -> BaseResponse:
            return redirect(f"{self.prefix}/home")

        @app.context_processor
        def surround() -> dict[str, object]:
            caller, session = getattr(g, "caller", None), current_session()
            held = frozenset[str]() if caller is None else caller.permissions
            return {
                "frame": self,
                "viewer": caller,
                "viewer_name": viewer_name,
                "provider": "/api/v1/session/oidc" if access.settings.oidc is not None else None,
                "signed_in_by": None if session is None else session.method,
                "csrf": csrf_field,
                "may": lambda permission: permission in held,
                "may_see_restores": not held.isdisjoint(("read", *WATCHERS)),
                "asset": lambda name: f"{self.prefix}/static/{name}?v={versions[name]}",
            }

        @app.after_request
        def protect(response: Response) -> Response:
            response.headers.setdefault("Content-Security-Policy", CONTENT_POLICY)
            response.headers.setdefault("Referrer-Policy", "same-origin")
            response.headers.setdefault("X-Frame-Options", "DENY")
            response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
            return response

        app.jinja_env.undefined = StrictUndefined
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
        app.jinja_env.filters |= FILTERS
        app.register_blueprint(shared)

    def _answer_errors(self, pages: Blueprint) -> None:
        @pages.errorhandler(SecrynError)
        def known(error: SecrynError) -> BaseResponse:
            self.on_refusal(error)
            if isinstance(error, NotAuthenticated | SessionEnded):
                return door(self.prefix, "sign-in", ended=ended_because())
            if isinstance(error, StalePage):
                return _stale_page(error, came_from(self.prefix))
            if isinstance(error, ProofNeeded) and current_session() is not None:
                return prove_first(self.prefix)
            return _error_page(error, error.http_status)

        @pages.errorhandler(HTTPException)
        def http(error: HTTPException) -> Response:
            status = error.code or 500
            kind: type[SecrynError] = NotFoundError if status == 404 else UsageError
            return _error_page(kind(error.description or "it cannot be answered"), status)

        @pages.errorhandler(Exception)
        def unknown(error: Exception) -> Response:
            log.error("page.failed", error_type=type(error).__name__, exc_info=error)
            return _error_page(SecrynError("Something went wrong here that nobody foresaw."), 500)


def _stale_page(error: StalePage, again: str) -> BaseResponse:
    """Say that a form is from before another sign-in in this browser, and lead to a new one."""
    if request.headers.get("HX-Request") == "true":
        return _error_page(error, error.http_status)
    return make_response(
        render_template("web/stale.html", error=error, again=again), error.http_status
    )


def _error_page(error: SecrynError, status: int) -> Response:
    """Answer with a page, or with a line where only a part of a page was asked for."""
    part = request.headers.get("HX-Request") == "true"
    template = "web/error_part.html" if part else "web/error.html"
    body = render_template(
        template,
        error=error,
        status=status,
        phrase=HTTPStatus(status).phrase,
        correlation_id=g.get("correlation_id", ""),
    )
    return make_response(body, status)


def csrf_field() -> Markup:
    """Return the hidden field that every form of ours carries."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, csrf_token())


def viewer_name() -> str:
    """Return the name of whoever looks at the page, as that person knows it."""
    session = current_session()
    return session.username if session is not None else current_caller().name
