"""The HTTP interface of the standing settings: read with an ETag, changed and confirmed with it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from backup_service.configuration.commands import ANY, parse_configure, parse_confirm
from backup_service.configuration.names import standing_model
from backup_service.context import BackupContext
from backup_service.handlers.configure import configure, confirm, show_configuration
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.errors import PreconditionMissing, UsageError


def create_configuration_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1/configuration."""
    routes = Blueprint("configuration", __name__, url_prefix="/api/v1/configuration")

    @routes.get("/<name>")
    @requires("read")
    def show(name: str) -> Response:
        return _answer(show_configuration(context, standing_model(name)))

    @routes.put("/<name>")
    @requires("configure")
    def change(name: str) -> Response:
        command = parse_configure(standing_model(name), _with_if_match(json_body()))
        return _answer(configure(context, command, http_requester()))

    @routes.post("/<name>/confirm")
    @requires("configure")
    def confirmation(name: str) -> Response:
        command = parse_confirm(standing_model(name), _with_if_match(json_body()))
        return _answer(confirm(context, command, http_requester()))

    return routes


def _answer(shown: dict[str, Any]) -> Response:
    response = jsonify(shown)
    response.set_etag(shown["etag"])
    return response


def _with_if_match(document: Any) -> Any:
    """Put what the header says (RFC 9110, section 13.1.1) into the command."""
    if not isinstance(document, dict):
        return document
    header = request.headers.get("If-Match")
    if header is None:
        raise PreconditionMissing("the request has no If-Match")
    if header.strip() == ANY:
        return document | {"if_match": ANY}
    tags = list(request.if_match.as_set())
    if len(tags) != 1:
        raise UsageError("If-Match names one ETag, in quotes, or *")
    return document | {"if_match": tags[0]}
