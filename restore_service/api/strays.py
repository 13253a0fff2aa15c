"""The HTTP interface of states that unknown restores kept."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response, jsonify

from restore_service.commands import DropStray, parse_command
from restore_service.context import RestoreContext
from restore_service.handlers.drop_stray import drop_stray, find_strays
from serving.api import command_body, operation
from serving.caller import requires
from serving.requester import http_requester
from shared.api.restores import StrayState, StrayStates
from shared.errors import StrayNotDropped, StrayNotFound, TargetMismatch


def create_stray_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("strays", __name__, url_prefix="/api/v1")

    @routes.get("/stray-states")
    @operation("What is kept of restores that the history does not know", answer=StrayStates)
    @requires("read")
    def list_strays() -> Response:
        with context.transaction("looking for stray states") as conn:
            return jsonify({"states": find_strays(context, conn)})

    @routes.post("/stray-states/<restore_id>/drop")
    @operation(
        "Drop what is kept of a restore that the history does not know",
        body=DropStray,
        answer=StrayState,
        problems=(TargetMismatch, StrayNotFound, StrayNotDropped),
    )
    @requires("restore", proven=True)
    def drop(restore_id: str) -> Response:
        command = parse_command(DropStray, command_body())
        try:
            identity = str(UUID(restore_id))
        except ValueError:
            raise StrayNotFound(f"there is no restore {restore_id[:64]!r}") from None
        return jsonify(drop_stray(context, identity, command, http_requester()))

    return routes
