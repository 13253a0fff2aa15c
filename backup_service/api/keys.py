"""The HTTP interface of the keys that wait; the viewing of one is a route of its backup."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.api.routes import parse_backup_id
from backup_service.context import BackupContext
from backup_service.handlers.confirm_stored import KeyStored, confirm_stored, parse_stored
from backup_service.keys.overview import show_keys
from serving.api import operation
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.api.keys import StoredKey, WaitingKeys
from shared.errors import BackupNotFound


def create_key_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("keys", __name__, url_prefix="/api/v1")

    @routes.get("/keys")
    @operation("The one-time keys that wait to be viewed", answer=WaitingKeys)
    @requires("read")
    def keys() -> Response:
        return jsonify(show_keys(context))

    @routes.post("/backups/<backup_id>/key/stored")
    @operation(
        "I have stored the key: the request that viewed it is given it no more",
        body=KeyStored,
        answer=StoredKey,
        problems=(BackupNotFound,),
    )
    @requires("view_key")
    def stored(backup_id: str) -> Response:
        command = parse_stored(json_body())
        return jsonify(
            confirm_stored(context, parse_backup_id(backup_id), command, http_requester())
        )

    return routes
