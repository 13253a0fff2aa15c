"""The HTTP interface of the keys that wait; the viewing of one is a route of its backup."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.context import BackupContext
from backup_service.keys.overview import show_keys
from serving.api import operation
from serving.caller import requires
from shared.api.keys import WaitingKeys


def create_key_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("keys", __name__, url_prefix="/api/v1")

    @routes.get("/keys")
    @operation("The one-time keys that wait to be viewed", answer=WaitingKeys)
    @requires("read")
    def keys() -> Response:
        return jsonify(show_keys(context))

    return routes
