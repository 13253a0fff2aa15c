"""API tokens over HTTP: made, listed, revoked; in backup_service alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict, Field

from serving.access.context import Access
from serving.access.parsing import parsed
from serving.access.tokens import LONGEST, NewToken, create_token, list_tokens, revoke_token
from serving.api.operation import operation
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.api.access import NewToken as NewTokenDocument
from shared.api.access import Token, TokenList
from shared.errors import ProofNeeded, TokenExists, TokenNotFound

TokenPermission = Literal[
    "create", "download", "view_key", "restore", "configure", "hold", "delete", "read_audit", "read"
]


class CreateToken(BaseModel):
    """A token by its name, with what it may do and for how long.

    To approve takes a person: no token may.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    permissions: Annotated[frozenset[TokenPermission], Field(min_length=1)]
    expires_in_s: Annotated[int, Field(ge=60, le=int(LONGEST.total_seconds()))]
    unattended: bool = False


def create_token_routes(access: Access) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("tokens", __name__, url_prefix="/api/v1")

    @routes.post("/tokens")
    @operation(
        "Make an API token, which is shown this once",
        body=CreateToken,
        answer=NewTokenDocument,
        status=201,
        problems=(TokenExists, ProofNeeded),
    )
    @requires("configure", proven=True)
    def create() -> tuple[Response, int]:
        asked = parsed(CreateToken, json_body())
        wanted = NewToken(
            asked.name,
            frozenset(asked.permissions),
            timedelta(seconds=asked.expires_in_s),
            asked.unattended,
        )
        return jsonify(create_token(access, wanted, http_requester())), 201

    @routes.get("/tokens")
    @operation("All API tokens, never themselves", answer=TokenList)
    @requires("configure")
    def show_all() -> Response:
        return jsonify({"tokens": list_tokens(access)})

    @routes.post("/tokens/<name>/revoke")
    @operation("End an API token at once", answer=Token, problems=(TokenNotFound,))
    @requires("configure")
    def revoke(name: str) -> Response:
        return jsonify(revoke_token(access, name, http_requester()))

    return routes
