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
)
from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.runs import REQUESTED, stream_of
from serving.api import LOCATION, accepted, command_body, operation, query
from serving.caller import requires
from serving.requester import http_requester, json_body
from serving.watching import FOLLOWS, WAITS, WaitQuery, WatchBoard, Watched, follow, show
from shared.api.retention import RetentionPreview, RetentionRun
from shared.errors import RetentionRunNotFound, WatchersBusy


class Proposed(BaseModel):
    """Rules that might be set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: dict[str, Any]


def create_retention_routes(context: BackupContext, board: WatchBoard) -> Blueprint:
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
    @operation(
        "One run of retention, at once or when it has changed",
        answer=RetentionRun,
        problems=(RetentionRunNotFound,),
        **WAITS,
    )
    @requires("read")
    def show_one(run_id: str) -> Response:
        return show(board, _watched(context, run_id), query(WaitQuery).wait_s)

    @routes.get("/runs/<run_id>/events")
    @operation(
        "One run of retention as it changes: server-sent events",
        problems=(RetentionRunNotFound, WatchersBusy),
        **FOLLOWS,
    )
    @requires("read")
    def watch(run_id: str) -> Response:
        return follow(board, _watched(context, run_id))

    return routes


def _watched(context: BackupContext, run_id: str) -> Watched:
    try:
        identity = str(UUID(run_id))
    except ValueError:
        raise RetentionRunNotFound(f"there is no run {run_id[:64]!r}") from None
    return Watched(
        stream_of(identity),
        identity,
        lambda conn: context.runs.get(conn, identity),
        lambda run: run["state"] != REQUESTED,
    )
