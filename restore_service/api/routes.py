"""The HTTP interface of restore_service: each route builds a command or reads a model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request

from restore_service.commands import (
    PreviewRestore,
    ReapplyVoided,
    RestoreInstance,
    UndoRestore,
    parse_command,
)
from restore_service.context import RestoreContext
from restore_service.handlers.reapply_voided import reapply_voided
from restore_service.handlers.request_preview import request_preview
from restore_service.handlers.request_restore import cancel_restore, request_restore
from restore_service.handlers.request_undo import request_undo
from restore_service.recipient.publish import publish_recipient
from restore_service.space import measure_space
from restore_service.uploads import store_upload
from restore_service.voided import page_of_voided
from serving.caller import current_caller, requires
from serving.requester import http_requester, json_body, number_argument
from shared.errors import AccessError, RestoreNotFound, UsageError

PAGE_DEFAULT, PAGE_MAX = 100, 1000


def create_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("restores", __name__, url_prefix="/api/v1")

    @routes.get("/recipient")
    @requires("read")
    def recipient() -> Response:
        present = publish_recipient(context)
        return jsonify({"recipient": present.recipient, "expires_at": present.expires_at})

    @routes.put("/uploads/<upload_id>")
    @requires("restore")
    def upload(upload_id: str) -> tuple[Response, int]:
        stored = store_upload(
            context.uploads,
            _upload_id(upload_id),
            request.stream,
            _content_length(),
            context.settings.restore.upload_max_bytes,
        )
        return jsonify(stored), 201

    @routes.post("/restores")
    @requires("restore", proven=True)
    def start() -> tuple[Response, int]:
        restore = request_restore(
            context, parse_command(RestoreInstance, json_body()), http_requester()
        )
        return jsonify(_shown(context, restore)), 202

    @routes.post("/previews")
    @requires("restore")
    def preview() -> tuple[Response, int]:
        command = parse_command(PreviewRestore, json_body())
        return jsonify(request_preview(context, command, http_requester())), 202

    @routes.get("/previews/<preview_id>")
    @requires("restore")
    def show_preview(preview_id: str) -> Response:
        found = context.previews.get(preview_id[:64])
        return jsonify(found | context.progress.of(found["preview_id"]))

    @routes.post("/undos")
    @requires("restore", or_one="undo_one", proven=True)
    def undo() -> tuple[Response, int]:
        command = parse_command(UndoRestore, json_body())
        _check_only(str(command.restore_id))
        return jsonify(_shown(context, request_undo(context, command, http_requester()))), 202

    @routes.get("/space")
    @requires("read")
    def space() -> Response:
        with context.transaction("looking at the space") as conn:
            return jsonify(measure_space(conn, context.settings.restore))

    @routes.get("/restores")
    @requires("read")
    def list_restores() -> Response:
        limit = number_argument("limit", PAGE_DEFAULT)
        if not 1 <= limit <= PAGE_MAX:
            raise UsageError(f"limit must be from 1 to {PAGE_MAX}")
        with context.transaction("reading the history") as conn:
            return jsonify(context.history.page(conn, limit))

    @routes.get("/restores/<restore_id>")
    @requires("read", or_one="watch_one")
    def show(restore_id: str) -> Response:
        _check_only(restore_id)
        with context.transaction("reading the history") as conn:
            restore = context.history.get(conn, _id(restore_id))
        return jsonify(_shown(context, restore))

    @routes.get("/restores/<restore_id>/voided")
    @requires("read")
    def voided(restore_id: str) -> Response:
        limit = number_argument("limit", PAGE_MAX)
        if not 1 <= limit <= PAGE_MAX:
            raise UsageError(f"limit must be from 1 to {PAGE_MAX}")
        after = number_argument("after", 0) if "after" in request.args else None
        return jsonify(page_of_voided(context, _id(restore_id), after, limit))

    @routes.post("/restores/<restore_id>/reapply")
    @requires("restore")
    def reapply(restore_id: str) -> Response:
        command = parse_command(ReapplyVoided, json_body())
        return jsonify(reapply_voided(context, _id(restore_id), command, http_requester()))

    @routes.post("/restores/<restore_id>/cancel")
    @requires("restore")
    def cancel(restore_id: str) -> Response:
        return jsonify(cancel_restore(context, _id(restore_id), http_requester()))

    return routes


def _check_only(restore_id: str) -> None:
    """Refuse a receipt for anything but its own restore. Raises AccessError."""
    only = current_caller().only
    if only is not None and only != restore_id:
        raise AccessError("a receipt is for its own restore alone")


def _content_length() -> int:
    if request.content_length is None:
        raise UsageError("an upload needs a Content-Length")
    return request.content_length


def _upload_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError("the id of an upload is a UUID that you choose") from None


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise RestoreNotFound(f"there is no restore {text[:64]!r}") from None


def _shown(context: RestoreContext, restore: dict[str, Any]) -> dict[str, Any]:
    return restore | context.progress.of(restore["restore_id"])
