"""The HTTP interface of the schedule: what it will do, and one run now."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.context import BackupContext
from backup_service.handlers.run_now import RunNow, parse_run_now, run_now
from backup_service.schedule.view import show_protection, show_schedule
from serving.api import accepted, command_body, operation
from serving.caller import requires
from serving.requester import http_requester
from shared.api.backups import Backup
from shared.api.schedule import Protection, Schedule


def create_schedule_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("schedule", __name__, url_prefix="/api/v1")

    @routes.get("/schedule")
    @operation("The schedule, its next runs, and what became of the last", answer=Schedule)
    @requires("read")
    def show() -> Response:
        return jsonify(show_schedule(context))

    @routes.post("/schedule/run")
    @operation(
        "Make a backup now as the schedule would",
        body=RunNow,
        idempotent="command_id",
        answer=Backup,
        status=202,
        headers={"Location": "Where to watch what becomes of it."},
    )
    @requires("create")
    def run() -> Response:
        backup = run_now(context, parse_run_now(command_body()), http_requester())
        return accepted(backup, f"/api/v1/backups/{backup['backup_id']}")

    @routes.get("/protection")
    @operation("What a loss would cost now, and what runs next", answer=Protection)
    @requires("read")
    def protection() -> Response:
        return jsonify(show_protection(context))

    return routes
