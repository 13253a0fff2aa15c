"""The HTTP interface of retention: what the rules say, and have them applied."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict

from backup_service.commands import RunRetention, parse_command
from backup_service.context import BackupContext
from backup_service.handlers.apply_retention import (
    preview_retention,
    request_retention,
    show_run,
)
from backup_service.retention.policy import RetentionPolicy
from serving.api import LOCATION, accepted, command_body, operation
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.api.retention import RetentionPreview, RetentionRun
from shared.errors import RetentionRunNotFound


class Proposed(BaseModel):
    """Rules that might be set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: dict[str, Any]


def create_retention_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1/retention."""
    routes = Blueprint("retention", __name__, url_prefix="/api/v1/retention")

    @routes.get("/preview")
    @operation("Which backups the rules would purge", answer=RetentionPreview)
    @requires("read")
    def preview() -> Response:
        return jsonify(preview_retention(context))

    @routes.post("/preview")
    @operation("Which backups other rules would purge", body=Proposed, answer=RetentionPreview)
    @requires("read")
    def preview_proposed() -> Response:
        proposed = parse_command(Proposed, json_body())
        return jsonify(preview_retention(context, RetentionPolicy.read(proposed.value)))

    @routes.post("/runs")
    @operation(
        "Apply the rules now",
        body=RunRetention,
        idempotent="command_id",
        answer=RetentionRun,
        status=202,
        headers=LOCATION,
    )
    @requires("delete", proven=True)
    def run() -> Response:
        command = parse_command(RunRetention, command_body())
        asked = request_retention(context, command, http_requester())
        return accepted(asked, f"/api/v1/retention/runs/{asked['run_id']}")

    @routes.get("/runs/<run_id>")
    @operation("One run of retention", answer=RetentionRun, problems=(RetentionRunNotFound,))
    @requires("read")
    def show(run_id: str) -> Response:
        try:
            return jsonify(show_run(context, str(UUID(run_id))))
        except ValueError:
            raise RetentionRunNotFound(f"there is no run {run_id[:64]!r}") from None

    return routes
