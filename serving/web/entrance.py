"""The pages at the door: sign in, prove again who one is, sign out."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from serving.access import (
    Access,
    check_same_origin,
    current_session,
    prove,
    require_session,
    set_session,
    sign_in,
    sign_out,
)
from serving.access.context import present_visit
from serving.caller import any_caller, open_to_all
from shared.errors import AccessError, SecrynError

ENDED = "ended"


def add_entrance(
    pages: Blueprint, access: Access, prefix: str, on_refusal: Callable[[SecrynError], None]
) -> None:
    """Add the pages below ``prefix``; ``on_refusal`` is told of who was not let in."""
    home = f"{prefix}/"

    @pages.get("/sign-in", endpoint="sign_in")
    @open_to_all
    def ask() -> str:
        return render_template(
            "web/sign_in.html", error=None, next=_within(request.args.get("next"), home), name="",
            ended=request.args.get(ENDED) is not None,
        )  # fmt: skip

    @pages.post("/sign-in", endpoint="signed_in")
    @open_to_all
    def enter() -> BaseResponse:
        check_same_origin()
        name, following = request.form.get("name", ""), _within(request.form.get("next"), home)
        try:
            signed_in = sign_in(access, name, request.form.get("password", ""), present_visit())
        except SecrynError as error:
            _told(on_refusal, error)
            return _again("web/sign_in.html", error, next=following, name=name, ended=False)
        response = make_response(redirect(following, 303))
        set_session(response, access, signed_in)
        return response

    @pages.get("/prove", endpoint="prove")
    @any_caller
    def ask_again() -> str:
        require_session()
        return render_template(
            "web/prove.html", error=None, next=_within(request.args.get("next"), home)
        )

    @pages.post("/prove", endpoint="proven")
    @any_caller
    def proven() -> BaseResponse:
        following = _within(request.form.get("next"), home)
        try:
            prove(access, require_session(), request.form.get("password", ""), present_visit())
        except SecrynError as error:
            _told(on_refusal, error)
            return _again("web/prove.html", error, next=following)
        return redirect(following, 303)

    @pages.post("/sign-out", endpoint="sign_out")
    @any_caller
    def leave() -> BaseResponse:
        response = make_response(redirect(f"{prefix}/sign-in", 303))
        if current_session() is not None:
            sign_out(response, access)
        return response


def door(prefix: str, name: str, *, ended: bool = False) -> BaseResponse:
    """Send whoever asks to ``sign-in`` or ``prove``, and from there back to where it was."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else _came_from(prefix)
    query = {"next": wanted} | ({ENDED: "1"} if ended else {})
    target = f"{prefix}/{name}?{urlencode(query)}"
    if request.headers.get("HX-Request") == "true":
        return Response(headers={"HX-Redirect": target})
    return redirect(target, 303)


def _came_from(prefix: str) -> str:
    """Return the page that the form stood on: what was typed there is gone, the page is not."""
    referrer = request.referrer or ""
    if referrer.startswith(request.host_url):
        return "/" + referrer.removeprefix(request.host_url)
    return f"{prefix}/"


def _within(path: str | None, home: str) -> str:
    """Return ``path`` if it is a page of ours, ``home`` otherwise: nobody is sent elsewhere."""
    if path is None or not path.startswith("/admin/") or "\\" in path or "//" in path:
        return home
    return path if path.isprintable() else home


def _told(on_refusal: Callable[[SecrynError], None], error: SecrynError) -> None:
    if isinstance(error, AccessError):
        on_refusal(error)


def _again(template: str, error: SecrynError, **shown: object) -> Response:
    return make_response(render_template(template, error=error, **shown), error.http_status)
