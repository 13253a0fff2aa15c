"""The HTTP interface of the schedule: what it will do, and one run now."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from backup_service.context import BackupContext
from backup_service.handlers.run_now import parse_run_now, run_now
from backup_service.schedule.view import show_protection, show_schedule
from serving.caller import requires
from serving.requester import http_requester, json_body


def create_schedule_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("schedule", __name__, url_prefix="/api/v1")

    @routes.get("/schedule")
    @requires("read")
    def show() -> Response:
        return jsonify(show_schedule(context))

    @routes.post("/schedule/run")
    @requires("create")
    def run() -> tuple[Response, int]:
        return jsonify(run_now(context, parse_run_now(json_body()), http_requester())), 202

    @routes.get("/protection")
    @requires("read")
    def protection() -> Response:
        return jsonify(show_protection(context))

    return routes
