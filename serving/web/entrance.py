"""The pages at the door: sign in, prove again who one is, sign out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from serving.access import (
    CSRF_FIELD,
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
from serving.access.sessions import end_session
from serving.addresses import without_secrets
from serving.caller import any_caller, open_to_all
from shared.errors import (
    OidcUnavailable,
    ProofNeeded,
    SecrynError,
    SignInRefused,
    TooManyAttempts,
)

ENDED: Final = "ended"
# Marks that something was left out of the address that was asked for.
LEFT_OUT: Final = "left_out"
# Marks a proof that a form waits for.
CARRIES: Final = "carries"
# No page repeats these: whoever typed one types it again.
SECRETS: Final = frozenset({"key", "password"})
# What a code that came with the way back from a provider means to a person.
REFUSED: Final = {
    SignInRefused.code: (
        "Your organisation knows you, but it lets nobody in here by that.",
        "Begin again in this window. If it stays so, ask an administrator for a user of that name.",
    ),
    TooManyAttempts.code: ("There were too many tries.", "Wait a minute, and begin again."),
    OidcUnavailable.code: (
        "The sign-in of your organisation does not answer.",
        "Try again in a moment, or sign in with a password of this instance.",
    ),
}
_OURS: Final = frozenset({CSRF_FIELD, CARRIES, "next", "back", "password", "username"})


def add_entrance(
    pages: Blueprint, access: Access, prefix: str, on_refusal: Callable[[SecrynError], None]
) -> None:
    """Add the pages below ``prefix``; ``on_refusal`` is told of who was not let in."""
    home = f"{prefix}/"

    @pages.get("/sign-in", endpoint="sign_in")
    @open_to_all
    def ask() -> str:
        return render_template(
            "web/sign_in.html", error=_from_provider(request.args.get("because")), next=_within(request.args.get("next"), home), name="",
            ended=request.args.get(ENDED) is not None, left_out=request.args.get(LEFT_OUT) is not None,
        )  # fmt: skip

    @pages.post("/sign-in", endpoint="signed_in")
    @open_to_all
    def enter() -> BaseResponse:
        check_same_origin()
        name, following = request.form.get("name", ""), _within(request.form.get("next"), home)
        password, before = request.form.get("password", ""), current_session()
        response = make_response(redirect(following, 303))
        try:
            if before is not None and before.user_id is not None and before.username == name:
                # Another window has signed in meanwhile. One session for all of them: the forms
                # that stand open in that one hold.
                prove(access, before, password, present_visit())
                return response
            signed_in = sign_in(access, name, password, present_visit())
        except SecrynError as error:
            on_refusal(error)
            return _again(
                "web/sign_in.html", error, next=following, name=name, ended=False, left_out=False
            )
        if before is not None:
            # Its cookie is replaced: nobody can end it any more.
            end_session(access, before, present_visit())
        set_session(response, access, signed_in)
        return response

    @pages.get("/prove", endpoint="prove")
    @any_caller
    def ask_again() -> str:
        require_session()
        return render_template(
            "web/prove.html", error=None, next=_within(request.args.get("next"), home), carried={},
            back=_within(request.args.get("next"), home),
        )  # fmt: skip

    @pages.post("/prove", endpoint="proven")
    @any_caller
    def proven() -> BaseResponse:
        following = _within(request.form.get("next"), home)
        carried = _carried(request.form) if CARRIES in request.form else {}
        try:
            prove(access, require_session(), request.form.get("password", ""), present_visit())
        except SecrynError as error:
            on_refusal(error)
            back = _within(request.form.get("back"), home)
            return _again("web/prove.html", error, next=following, carried=carried, back=back)
        # A form that was on its way goes on, as it was filled in: the browser sends it again.
        return redirect(following, 307 if carried else 303)

    @pages.post("/sign-out", endpoint="sign_out")
    @any_caller
    def leave() -> BaseResponse:
        response = make_response(redirect(f"{prefix}/sign-in", 303))
        if current_session() is not None:
            sign_out(response, access)
        return response


def _from_provider(code: str | None) -> SecrynError | None:
    """Return what to say to whoever the provider's way has led nowhere."""
    words = REFUSED.get(code or "")
    return None if words is None else SignInRefused(words[0], hint=words[1])


def door(prefix: str, name: str, *, ended: bool = False) -> BaseResponse:
    """Send whoever asks to ``sign-in`` or ``prove``, and from there back to where it was."""
    wanted = request.full_path.rstrip("?") if request.method == "GET" else came_from(prefix)
    clean = without_secrets(wanted)
    query = {"next": clean or f"{prefix}/"} | ({ENDED: "1"} if ended else {})
    if clean != wanted:
        query |= {LEFT_OUT: "1"}
    target = f"{prefix}/{name}?{urlencode(query)}"
    if request.headers.get("HX-Request") == "true":
        return Response(headers={"HX-Redirect": target})
    return redirect(target, 303)


def prove_first(prefix: str) -> BaseResponse:
    """Ask again who it is; a form that was sent is carried along, unless a secret is in it."""
    carried = _carried(request.form) if request.method == "POST" else {}
    if not carried or not SECRETS.isdisjoint(request.form) or "HX-Request" in request.headers:
        return door(prefix, "prove")
    needed = ProofNeeded("who you are was proved too long ago")
    page = render_template(
        "web/prove.html",
        error=None,
        next=_within(request.path, f"{prefix}/"),
        carried=carried,
        back=came_from(prefix),
    )
    return make_response(page, needed.http_status)


def _carried(form: Mapping[str, str]) -> dict[str, str]:
    """Return what a person filled in, without the fields that are the frame's."""
    return {name: value for name, value in form.items() if name not in _OURS}


def came_from(prefix: str) -> str:
    """Return the page that the form stood on: what was typed there is gone, the page is not."""
    referrer = request.referrer or ""
    if not referrer.startswith(request.host_url):
        return f"{prefix}/"
    return _within("/" + referrer.removeprefix(request.host_url), f"{prefix}/")


def _within(path: str | None, home: str) -> str:
    """Return ``path`` if it is a page of ours, ``home`` otherwise: nobody is sent elsewhere.

    What is shaped like a secret is left out of it.
    """
    if path is None or not path.startswith("/admin/") or "\\" in path or "//" in path:
        return home
    clean = without_secrets(path) if path.isprintable() else None
    return home if clean is None else clean


def _again(template: str, error: SecrynError, **shown: object) -> Response:
    return make_response(render_template(template, error=error, **shown), error.http_status)
