"""The HTTP interface for what a person decides about one backup: hold, release, delete."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.api.routes import parse_backup_id
from backup_service.commands import DeleteBackup, HoldBackup, ReleaseBackup, parse_command
from backup_service.context import BackupContext
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from serving.caller import requires
from serving.requester import http_requester, json_body


def create_hold_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1/backups."""
    routes = Blueprint("holds", __name__, url_prefix="/api/v1/backups")

    @routes.post("/<backup_id>/hold")
    @requires("hold")
    def hold(backup_id: str) -> Response:
        command = parse_command(HoldBackup, json_body())
        return jsonify(hold_backup(context, parse_backup_id(backup_id), command, http_requester()))

    @routes.post("/<backup_id>/release")
    @requires("hold")
    def release(backup_id: str) -> Response:
        command = parse_command(ReleaseBackup, json_body())
        return jsonify(
            release_backup(context, parse_backup_id(backup_id), command, http_requester())
        )

    @routes.post("/<backup_id>/delete")
    @requires("delete", proven=True)
    def delete(backup_id: str) -> Response:
        command = parse_command(DeleteBackup, json_body())
        return jsonify(
            delete_backup(context, parse_backup_id(backup_id), command, http_requester())
        )

    return routes
