"""The HTTP interface for what follows a loss: of the log, of an event, of the history."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from backup_service.api.routes import parse_backup_id
from backup_service.commands import AdoptBackup, AdoptLog, SkipEvent, parse_command
from backup_service.context import BackupContext
from backup_service.handlers.adopt_backup import adopt_backup, list_receipts
from backup_service.handlers.adopt_log import adopt_log
from backup_service.handlers.skip_event import skip_event
from serving.caller import requires
from serving.requester import http_requester, json_body, number_argument
from shared.errors import UsageError

PAGE_MAX = 500


def create_disaster_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("disasters", __name__, url_prefix="/api/v1")

    @routes.post("/instance/adopt-log")
    @requires("restore")
    def adopt_the_log() -> Response:
        command = parse_command(AdoptLog, json_body())
        return jsonify(adopt_log(context, command, http_requester()))

    @routes.post("/instance/skip-event")
    @requires("restore")
    def skip_the_event() -> Response:
        command = parse_command(SkipEvent, json_body())
        return jsonify(skip_event(context, command, http_requester()))

    @routes.get("/receipts")
    @requires("read")
    def receipts() -> Response:
        limit = number_argument("limit", PAGE_MAX)
        if not 1 <= limit <= PAGE_MAX:
            raise UsageError(f"limit must be from 1 to {PAGE_MAX}")
        return jsonify(list_receipts(context, request.args.get("after", ""), limit))

    @routes.post("/backups/<backup_id>/adopt")
    @requires("configure")
    def adopt(backup_id: str) -> Response:
        command = parse_command(AdoptBackup, json_body())
        return jsonify(adopt_backup(context, parse_backup_id(backup_id), command, http_requester()))

    return routes
