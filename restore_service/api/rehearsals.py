"""The HTTP interface of rehearsals: each route builds a command or reads a model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify

from restore_service.commands import RehearseRestore, parse_command
from restore_service.context import RestoreContext
from restore_service.handlers.request_rehearsal import cancel_rehearsal, request_rehearsal
from serving.caller import requires
from serving.requester import http_requester, json_body, number_argument
from shared.errors import RehearsalNotFound, UsageError

PAGE_DEFAULT, PAGE_MAX = 100, 1000


def create_rehearsal_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1/rehearsals."""
    routes = Blueprint("rehearsals", __name__, url_prefix="/api/v1/rehearsals")

    @routes.post("")
    @requires("restore")
    def start() -> tuple[Response, int]:
        command = parse_command(RehearseRestore, json_body())
        rehearsal = request_rehearsal(context, command, http_requester())
        return jsonify(_shown(context, rehearsal)), 202

    @routes.get("")
    @requires("read")
    def list_rehearsals() -> Response:
        limit = number_argument("limit", PAGE_DEFAULT)
        if not 1 <= limit <= PAGE_MAX:
            raise UsageError(f"limit must be from 1 to {PAGE_MAX}")
        with context.transaction("reading the rehearsals") as conn:
            return jsonify(context.rehearsals.page(conn, limit))

    @routes.get("/<rehearsal_id>")
    @requires("read")
    def show(rehearsal_id: str) -> Response:
        with context.transaction("reading the rehearsals") as conn:
            rehearsal = context.rehearsals.get(conn, _id(rehearsal_id))
        return jsonify(_shown(context, rehearsal))

    @routes.post("/<rehearsal_id>/cancel")
    @requires("restore")
    def cancel(rehearsal_id: str) -> Response:
        return jsonify(cancel_rehearsal(context, _id(rehearsal_id), http_requester()))

    return routes


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise RehearsalNotFound(f"there is no rehearsal {text[:64]!r}") from None


def _shown(context: RestoreContext, rehearsal: dict[str, Any]) -> dict[str, Any]:
    return rehearsal | context.progress.of(rehearsal["rehearsal_id"])
