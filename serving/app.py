"""The Flask application that both services start from: closed unless a route says otherwise."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog
from flask import Flask, Response, current_app, g, jsonify, request
from prometheus_client import CollectorRegistry, Counter, generate_latest
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from serving.access import Access, enter_by_cookie
from serving.access.cookies import (
    RECEIPT_COOKIE,
    SAFE_METHODS,
    check_same_origin,
    read_cookie,
)
from serving.addresses import without_secrets
from serving.caller import PROOF, Authenticator, Caller, open_to_all, requires
from serving.requester import http_requester
from shared import errors
from shared.errors import (
    NotAuthenticated,
    NotFoundError,
    ProofNeeded,
    SecrynError,
    SessionEnded,
    TooManyAttempts,
    UsageError,
    ValueTooLarge,
)
from shared.health import LastingFault
from shared.settings import PlaceSettings

PROBLEM = "application/problem+json"
# On every answer. A page may load its own files and says so itself; an API's answer loads nothing.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Frame-Options": "DENY",
    # Our own pages say where a form comes from; nobody else learns where somebody was.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
# For what is down or busy and may be asked again.
RETRY_AFTER_S = "1"
# What a client may choose for itself; anything else could break a log line.
_CORRELATION_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

# What the framework refuses by itself, in our terms.
_HTTP_KINDS: Mapping[int, type[SecrynError]] = {
    404: NotFoundError,
    405: errors.MethodNotAllowed,
    413: ValueTooLarge,
    415: errors.MediaTypeUnsupported,
}
_HTTP_WORDS = {
    404: "there is nothing under this address",
    405: "this address has no such method",
}

log = structlog.get_logger(__name__)

Check = Callable[[], str | None]
RefusalHook = Callable[[SecrynError], None]


@dataclass
class Readiness:
    """Named checks; each returns None, or what is wrong in one line without secrets.

    It is a ``LastingFault`` when only a person can mend it.
    """

    checks: dict[str, Check] = field(default_factory=dict)

    def add(self, name: str, check: Check) -> None:
        """Make ``check`` a condition of being ready."""
        self.checks[name] = check

    def faults(self) -> Mapping[str, str]:
        """Run every check and return the faults by name."""
        found: dict[str, str] = {}
        for name, check in self.checks.items():
            try:
                fault = check()
            except SecrynError as error:
                fault = f"{error.code}: {error.message}"
            if fault is not None:
                found[name] = fault
        return found


def create_app(
    service: str,
    authenticator: Authenticator,
    readiness: Readiness,
    *,
    access: Access | None = None,
    registry: CollectorRegistry | None = None,
    on_refusal: RefusalHook | None = None,
    place: PlaceSettings | None = None,
) -> Flask:
    """Build an application with health, metrics, problems and authentication.

    ``place`` is what /readyz tells a caller that it has reached. With ``access`` a web session's
    cookie is another way to be known than a token. ``on_refusal`` is called with every error of ours
    before it is answered (the audit trail).
    """
    app = Flask(service, static_folder=None)
    app.extensions[PROOF] = partial(_check_proof, access)
    registry = registry if registry is not None else CollectorRegistry()
    requests_total = Counter(
        "secryn_http_requests",
        "HTTP requests by endpoint and status",
        ["service", "endpoint", "status"],
        registry=registry,
    )

    @app.before_request
    def enter() -> None:
        offered = request.headers.get("X-Correlation-Id", "")
        g.correlation_id = offered if _CORRELATION_ID.match(offered) else str(uuid.uuid4())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            correlation_id=g.correlation_id, service=service, endpoint=request.endpoint
        )
        is_open = _marked(app, "open_to_all")
        g.caller = _enter(authenticator, access, is_open)
        if g.caller is None and not is_open:
            raise NotAuthenticated("the request carries no valid token")

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers["X-Correlation-Id"] = g.get("correlation_id", "")
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.is_secure:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        _clean_location(response)
        requests_total.labels(service, request.endpoint or "none", response.status_code).inc()
        return response

    _answer_errors(app, on_refusal)
    _add_health(app, service, readiness, registry, place)
    return app


def _clean_location(response: Response) -> None:
    """Send nobody on to an address of ours that holds a secret: a slash that is put right, say."""
    target = response.headers.get("Location", "")
    path = (
        "/" + target.removeprefix(request.host_url)
        if target.startswith(request.host_url)
        else target
    )
    if path.startswith("/"):
        clean = without_secrets(path)
        if clean != path:
            response.headers["Location"] = clean or "/"


def _check_proof(access: Access | None) -> None:
    if access is None:
        raise ProofNeeded("nobody can prove here who they are")
    http_requester().require_proof(access.clock.now(), access.settings.proof_max_age_s)


def _marked(app: Flask, mark: str) -> bool:
    """Tell whether the view of the present request carries a mark (serving/caller.py)."""
    view = app.view_functions.get(request.endpoint or "")
    return bool(getattr(view, mark, False))


def _enter(authenticator: Authenticator, access: Access | None, is_open: bool) -> Caller | None:
    """Return who makes the request: by its token, or where there is none by its cookie.

    A route that is open to everybody is so for whoever cannot be known, too.
    """
    try:
        return _known(authenticator, access, is_open)
    except SecrynError:
        if not is_open:
            raise
        return None


def _known(authenticator: Authenticator, access: Access | None, is_open: bool) -> Caller | None:
    if "Authorization" in request.headers or access is None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        return authenticator.authenticate(token.strip())
    try:
        streams = _marked(current_app, "streams_form")
        found = enter_by_cookie(access, is_open=is_open, streams_form=streams)
    except SessionEnded:
        found = _enter_by_receipt(authenticator, access)
        if found is None:
            raise
    return found or _enter_by_receipt(authenticator, access)


def _enter_by_receipt(authenticator: Authenticator, access: Access) -> Caller | None:
    """Return who started a restore in this browser: the restore ended its session."""
    receipt = read_cookie(RECEIPT_COOKIE, access.instance_id)
    found = authenticator.authenticate(receipt) if receipt is not None else None
    if found is not None and request.method not in SAFE_METHODS:
        check_same_origin()
    return found


def _answer_errors(app: Flask, on_refusal: RefusalHook | None) -> None:
    def problem(error: SecrynError, status: int | None = None) -> Response:
        status = error.http_status if status is None else status
        body = error.as_problem() | {
            "status": status,
            "correlation_id": g.get("correlation_id", ""),
        }
        response = jsonify(body)
        response.status_code = status
        response.content_type = PROBLEM
        if error.http_status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, TooManyAttempts):
            response.headers["Retry-After"] = str(error.retry_after_s)
        elif isinstance(error, errors.RangeUnsatisfiable):
            response.headers["Content-Range"] = f"bytes */{error.size_bytes}"
        elif status == 503:
            response.headers["Retry-After"] = RETRY_AFTER_S
        return response

    @app.errorhandler(SecrynError)
    def known(error: SecrynError) -> Response:
        if on_refusal is not None:
            on_refusal(error)
        return problem(error)

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        status = error.code or 500
        kind = _HTTP_KINDS.get(status, UsageError if status < 500 else SecrynError)
        what = _HTTP_WORDS.get(status) or error.description or "the request cannot be answered"
        response = problem(kind(what), status)
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def unknown(error: Exception) -> Response:
        # The trace goes to the log, where the correlation id finds it; never to the caller.
        log.error("request.failed", error_type=type(error).__name__, exc_info=error)
        return problem(SecrynError("an unexpected error; the log has it under the correlation id"))


def _add_health(
    app: Flask,
    service: str,
    readiness: Readiness,
    registry: CollectorRegistry,
    place: PlaceSettings | None,
) -> None:
    @app.get("/healthz", endpoint="healthz")
    @open_to_all
    def healthz() -> Response:
        return jsonify(service=service, status="alive")

    @app.get("/readyz", endpoint="readyz")
    @open_to_all
    def readyz() -> Response:
        faults = readiness.faults()
        body: dict[str, object] = {"service": service, "ready": not faults}
        if g.caller is not None:
            # A stranger learns whether, the operator learns why not.
            body["faults"] = dict(faults)
            body["lasting"] = any(isinstance(fault, LastingFault) for fault in faults.values())
            if place is not None:
                facts = {"instance_id", "environment", "environment_kind"}
                body["place"] = place.model_dump(mode="json", include=facts)
        response = jsonify(body)
        response.status_code = 503 if faults else 200
        return response

    @app.get("/metrics", endpoint="metrics")
    @requires("read")
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type="text/plain; version=0.0.4")
