"""Administrators of backups over HTTP: for the operator, and for a place that has nobody yet."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.context import BackupContext
from backup_service.handlers.create_administrator import CreateAdministrator, create_administrator
from serving.access import Access
from serving.access.parsing import parsed
from serving.api import operation
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.api.access import Administrator
from shared.errors import BootstrapSpent, FenceOpen, SignInBusy, StoreBehind, UserExists


def create_administrator_routes(context: BackupContext, access: Access) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("administrators", __name__, url_prefix="/api/v1")

    @routes.post("/administrators")
    @operation(
        "Make a new user of the instance who may do everything about backups",
        body=CreateAdministrator,
        answer=Administrator,
        status=201,
        problems=(UserExists, BootstrapSpent, FenceOpen, SignInBusy, StoreBehind),
    )
    @requires("create_administrator")
    def create() -> tuple[Response, int]:
        command = parsed(CreateAdministrator, json_body())
        made = create_administrator(context, access.gate, command, http_requester())
        return jsonify(made), 201

    return routes
