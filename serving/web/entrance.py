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
    present_device,
    prove,
    require_session,
    set_session,
    sign_in,
    sign_out,
)
from serving.access.context import present_visit
from serving.access.sessions import end_session
from serving.addresses import page_within, without_secrets
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
UNPROVEN: Final = REFUSED | {
    SignInRefused.code: (
        "Your organisation did not confirm that it is you.",
        "Begin again, and sign in there as the person who is signed in here.",
    )
}
# Why a session has ended, to whoever had it.
WHY: Final = {
    "idle": "Nobody used it for a while.",
    "expired": "It was open for as long as one may be.",
    "restored": "The instance was restored, or a restore was undone: that ends every session. "
    "Names and passwords are those of the restored state.",
    "password_changed": "The password was changed.",
    "roles_changed": "What the account may do was changed.",
    "disabled": "The account was disabled, or is gone.",
    "spent": "The bootstrap credential is spent, or was replaced.",
    "signed_out": "You signed out, perhaps in another window.",
}
_OURS: Final = frozenset({CSRF_FIELD, CARRIES, "next", "back", "password", "username"})


def add_entrance(
    pages: Blueprint, access: Access, prefix: str, on_refusal: Callable[[SecrynError], None]
) -> None:
    """Add the pages below ``prefix``; ``on_refusal`` is told of who was not let in."""
    # The first page that the person may see, of whichever service has it.
    home = f"{prefix}/home"

    @pages.get("/sign-in", endpoint="sign_in")
    @open_to_all
    def ask() -> str:
        return render_template(
            "web/sign_in.html", error=_from_provider(REFUSED), next=page_within(request.args.get("next"), home), name="",
            ended=WHY.get(request.args.get(ENDED, "")), left_out=request.args.get(LEFT_OUT) is not None,
        )  # fmt: skip

    @pages.post("/sign-in", endpoint="signed_in")
    @open_to_all
    def enter() -> BaseResponse:
        check_same_origin()
        name, following = request.form.get("name", ""), page_within(request.form.get("next"), home)
        password, before = request.form.get("password", ""), current_session()
        response = make_response(redirect(following, 303))
        try:
            if before is not None and before.user_id is not None and before.username == name:
                # Another window has signed in meanwhile. One session for all of them: the forms
                # that stand open in that one hold.
                prove(access, before, password, present_visit())
                return response
            signed_in = sign_in(access, name, password, present_visit(), present_device(access))
        except SecrynError as error:
            on_refusal(error)
            return _again(
                "web/sign_in.html", error, next=following, name=name, ended=None, left_out=False
            )
        if before is not None:
            # Its cookie is replaced: nobody can end it any more.
            end_session(access, before.session_id, present_visit())
        set_session(response, access, signed_in)
        return response

    @pages.get("/prove", endpoint="prove")
    @any_caller
    def ask_again() -> str:
        require_session()
        return render_template(
            "web/prove.html", error=_from_provider(UNPROVEN), next=page_within(request.args.get("next"), home), carried={}, kept_back=False,
            back=page_within(request.args.get("next"), home),
        )  # fmt: skip

    @pages.post("/prove", endpoint="proven")
    @any_caller
    def proven() -> BaseResponse:
        following = page_within(request.form.get("next"), home)
        carried = _carried(request.form) if CARRIES in request.form else {}
        try:
            prove(access, require_session(), request.form.get("password", ""), present_visit())
        except SecrynError as error:
            on_refusal(error)
            back = page_within(request.form.get("back"), home)
            return _again(
                "web/prove.html", error, next=following, carried=carried, back=back, kept_back=False
            )
        # A form that was on its way goes on, as it was filled in: the browser sends it again.
        return redirect(following, 307 if carried else 303)

    @pages.post("/sign-out", endpoint="sign_out")
    @any_caller
    def leave() -> BaseResponse:
        response = make_response(redirect(f"{prefix}/sign-in", 303))
        if current_session() is not None:
            sign_out(response, access)
        return response


def _from_provider(known: Mapping[str, tuple[str, str]]) -> SecrynError | None:
    """Return what to say to whoever the provider's way has led nowhere."""
    words = known.get(request.args.get("because", ""))
    return None if words is None else SignInRefused(words[0], hint=words[1])


def door(prefix: str, name: str, *, ended: str | None = None) -> BaseResponse:
    """Send whoever asks to ``sign-in`` or ``prove``, and from there back to where it was.

    ``ended`` is why its session has ended, where it had one.
    """
    wanted = request.full_path.rstrip("?") if request.method == "GET" else came_from(prefix)
    clean = without_secrets(wanted)
    query = {"next": clean or f"{prefix}/home"} | ({} if ended is None else {ENDED: ended})
    if clean != wanted:
        query |= {LEFT_OUT: "1"}
    target = f"{prefix}/{name}?{urlencode(query)}"
    if request.headers.get("HX-Request") == "true":
        return Response(headers={"HX-Redirect": target})
    return redirect(target, 303)


def prove_first(prefix: str) -> BaseResponse:
    """Ask again who it is; a form that was sent is carried along, but for the secrets in it."""
    carried = _carried(request.form) if request.method == "POST" else {}
    if not carried or "HX-Request" in request.headers:
        return door(prefix, "prove")
    needed = ProofNeeded("who you are was proved too long ago")
    page = render_template(
        "web/prove.html",
        error=None,
        next=page_within(request.path, f"{prefix}/home"),
        carried=carried,
        kept_back=not SECRETS.isdisjoint(request.form),
        back=came_from(prefix),
    )
    return make_response(page, needed.http_status)


def _carried(form: Mapping[str, str]) -> dict[str, str]:
    """Return what a person filled in, without the fields that are the frame's, and no secret."""
    return {name: value for name, value in form.items() if name not in _OURS | SECRETS}


def came_from(prefix: str) -> str:
    """Return the page that the form stood on: what was typed there is gone, the page is not."""
    referrer = request.referrer or ""
    if not referrer.startswith(request.host_url):
        return f"{prefix}/home"
    return page_within("/" + referrer.removeprefix(request.host_url), f"{prefix}/home")


def _again(template: str, error: SecrynError, **shown: object) -> Response:
    return make_response(render_template(template, error=error, **shown), error.http_status)
