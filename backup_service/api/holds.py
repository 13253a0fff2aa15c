"""The HTTP interface for what a person decides about one backup: hold, release, delete."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.api.routes import parse_backup_id
from backup_service.commands import DeleteBackup, HoldBackup, ReleaseBackup, parse_command
from backup_service.context import BackupContext
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from serving.api import command_body, operation
from serving.caller import requires
from serving.requester import http_requester
from shared.api.backups import Backup
from shared.errors import BackupNotFound, ConflictError, NotFoundError


def create_hold_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1/backups."""
    routes = Blueprint("holds", __name__, url_prefix="/api/v1/backups")

    @routes.post("/<backup_id>/hold")
    @operation(
        "Keep a backup from being purged",
        body=HoldBackup,
        idempotent="command_id",
        answer=Backup,
        problems=(BackupNotFound, ConflictError),
    )
    @requires("hold")
    def hold(backup_id: str) -> Response:
        command = parse_command(HoldBackup, command_body())
        return jsonify(hold_backup(context, parse_backup_id(backup_id), command, http_requester()))

    @routes.post("/<backup_id>/release")
    @operation(
        "Give one holder's hold back",
        body=ReleaseBackup,
        idempotent="command_id",
        answer=Backup,
        problems=(BackupNotFound, NotFoundError, ConflictError),
    )
    @requires("hold")
    def release(backup_id: str) -> Response:
        command = parse_command(ReleaseBackup, command_body())
        return jsonify(
            release_backup(context, parse_backup_id(backup_id), command, http_requester())
        )

    @routes.post("/<backup_id>/delete")
    @operation(
        "Delete a backup for good",
        body=DeleteBackup,
        idempotent="command_id",
        answer=Backup,
        problems=(BackupNotFound, ConflictError),
    )
    @requires("delete", proven=True)
    def delete(backup_id: str) -> Response:
        command = parse_command(DeleteBackup, command_body())
        return jsonify(
            delete_backup(context, parse_backup_id(backup_id), command, http_requester())
        )

    return routes
