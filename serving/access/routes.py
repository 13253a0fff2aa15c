"""Sign in, look who one is, prove it again, sign out: the same in both services."""

from __future__ import annotations

from typing import Annotated, Any

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from serving.access.context import Access, present_visit
from serving.access.cookies import check_same_origin
from serving.access.entry import current_session, require_session
from serving.access.parsing import parsed
from serving.access.passwords import MAX_PASSWORD_BYTES
from serving.access.sessions import Session
from serving.access.sign_in import MAX_NAME_CHARS, open_place, prove, sign_in
from serving.access.web import present_device, set_session, sign_out
from serving.api.operation import operation
from serving.caller import any_caller, current_caller, open_to_all
from serving.requester import json_body
from shared.api.access import Session as SessionDocument
from shared.errors import (
    BootstrapSpent,
    CrossSiteRefused,
    SessionEnded,
    SignInBusy,
    SignInRefused,
    TooManyAttempts,
)

Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_BYTES, repr=False)]


class SignIn(BaseModel):
    """The name and the password of a user of the instance."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    username: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    password: Password


class Prove(BaseModel):
    """The password again."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    password: Password


class OpenPlace(BaseModel):
    """The bootstrap credential of a place without users."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: Password


def create_access_routes(access: Access) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("access", __name__, url_prefix="/api/v1")

    @routes.post("/session")
    @operation(
        "Sign in with a user of the instance; the session is a cookie",
        body=SignIn,
        answer=SessionDocument,
        status=201,
        problems=(SignInRefused, CrossSiteRefused, TooManyAttempts, SignInBusy),
    )
    @open_to_all
    def begin() -> tuple[Response, int]:
        check_same_origin()
        asked = parsed(SignIn, json_body())
        signed_in = sign_in(
            access, asked.username, asked.password, present_visit(), present_device(access)
        )
        response = jsonify(shown_session(signed_in.session))
        set_session(response, access, signed_in)
        return response, 201

    @routes.post("/session/bootstrap")
    @operation(
        "Come in with the bootstrap credential of a place without users",
        body=OpenPlace,
        answer=SessionDocument,
        status=201,
        problems=(SignInRefused, CrossSiteRefused, TooManyAttempts, BootstrapSpent),
    )
    @open_to_all
    def begin_first() -> tuple[Response, int]:
        check_same_origin()
        asked = parsed(OpenPlace, json_body())
        signed_in = open_place(access, asked.token, present_visit())
        response = jsonify(shown_session(signed_in.session))
        set_session(response, access, signed_in)
        return response, 201

    @routes.get("/session")
    @operation("Who the caller is", answer=SessionDocument)
    @any_caller
    def show() -> Response:
        session = current_session()
        if session is not None:
            return jsonify(shown_session(session))
        caller = current_caller()
        return jsonify({"name": caller.name, "permissions": sorted(caller.permissions)})

    @routes.post("/session/prove")
    @operation(
        "Prove again who one is, for what asks for it",
        body=Prove,
        answer=SessionDocument,
        problems=(SignInRefused, SessionEnded, TooManyAttempts, SignInBusy),
    )
    @any_caller
    def prove_again() -> Response:
        asked = parsed(Prove, json_body())
        session = prove(access, require_session(), asked.password, present_visit())
        return jsonify(shown_session(session))

    @routes.delete("/session")
    @operation("Sign out", status=204)
    @any_caller
    def end() -> Response:
        response = Response(status=204)
        sign_out(response, access)
        return response

    return routes


def shown_session(session: Session) -> dict[str, Any]:
    """Return what a session's own holder sees of it."""
    proven_at = session.caller.proven_at
    return {
        "name": session.caller.name,
        "username": session.username,
        "method": session.method,
        "permissions": sorted(session.caller.permissions),
        "proven_at": proven_at.isoformat() if proven_at is not None else None,
        "expires_at": session.expires_at.isoformat(),
        "csrf_token": session.csrf_token,
    }
