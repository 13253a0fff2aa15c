"""The HTTP interface for what follows a loss: of the log, of an event, of the history."""

from __future__ import annotations

from typing import Annotated

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, Field

from backup_service.api.routes import parse_backup_id
from backup_service.commands import AdoptBackup, AdoptLog, SkipEvent, parse_command
from backup_service.context import BackupContext
from backup_service.handlers.adopt_backup import adopt_backup, list_receipts
from backup_service.handlers.adopt_log import adopt_log
from backup_service.handlers.skip_event import skip_event
from serving.api import command_body, operation, query
from serving.caller import requires
from serving.requester import http_requester
from shared.api.backups import Adopted, ReceiptPage
from shared.api.instance import AdoptedLog, SkippedEvent
from shared.errors import (
    BackupInProgress,
    BackupNotFound,
    ConcurrencyConflict,
    LogLost,
    LogNotEmpty,
    LogNotLost,
    NothingToSkip,
    RestoreInProgress,
    TargetMismatch,
)

PAGE_MAX = 500


class ReceiptQuery(BaseModel):
    """Which page of receipts is wanted: behind the backup ``after``."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    after: Annotated[str, Field(max_length=64)] = ""


def create_disaster_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("disasters", __name__, url_prefix="/api/v1")

    @routes.post("/instance/adopt-log")
    @operation(
        "Let the store follow the log that is there now",
        body=AdoptLog,
        idempotent="command_id",
        answer=AdoptedLog,
        problems=(
            TargetMismatch,
            RestoreInProgress,
            BackupInProgress,
            LogNotLost,
            LogNotEmpty,
            ConcurrencyConflict,
        ),
    )
    @requires("restore")
    def adopt_the_log() -> Response:
        command = parse_command(AdoptLog, command_body())
        return jsonify(adopt_log(context, command, http_requester()))

    @routes.post("/instance/skip-event")
    @operation(
        "Pass the one event that cannot be decoded",
        body=SkipEvent,
        idempotent="command_id",
        answer=SkippedEvent,
        problems=(TargetMismatch, RestoreInProgress, NothingToSkip, LogLost, ConcurrencyConflict),
    )
    @requires("restore")
    def skip_the_event() -> Response:
        command = parse_command(SkipEvent, command_body())
        return jsonify(skip_event(context, command, http_requester()))

    @routes.get("/receipts")
    @operation(
        "The backups that have a receipt in the storage", query=ReceiptQuery, answer=ReceiptPage
    )
    @requires("read")
    def receipts() -> Response:
        wanted = query(ReceiptQuery)
        return jsonify(list_receipts(context, wanted.after, wanted.limit))

    @routes.post("/backups/<backup_id>/adopt")
    @operation(
        "Take a backup into the history from its receipt",
        body=AdoptBackup,
        answer=Adopted,
        problems=(BackupNotFound,),
    )
    @requires("configure")
    def adopt(backup_id: str) -> Response:
        command = parse_command(AdoptBackup, command_body())
        return jsonify(adopt_backup(context, parse_backup_id(backup_id), command, http_requester()))

    return routes
