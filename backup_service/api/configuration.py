"""The HTTP interface of the standing settings: read with an ETag, changed and confirmed with it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict

from backup_service.commands import Reason
from backup_service.configuration.commands import ANY, parse_configure, parse_confirm
from backup_service.configuration.names import standing_model
from backup_service.context import BackupContext
from backup_service.handlers.configure import configure, confirm, show_configuration
from serving.api import command_body, operation
from serving.caller import requires
from serving.requester import http_requester
from shared.api.configuration import Configured
from shared.errors import (
    ChangeOnItsWay,
    ConfigurationChanged,
    EpochChanged,
    FenceOpen,
    LogLost,
    NothingToConfirm,
    PreconditionMissing,
    RestoreInProgress,
    StoreBehind,
    UsageError,
)

ETAG = {"ETag": "Send it in If-Match to change what was read."}
IF_MATCH = {"If-Match": "The ETag of what was read, or * for whatever is there."}


class ChangeBody(BaseModel):
    """A change; ``value`` holds every field that is not to have its default."""

    model_config = ConfigDict(extra="forbid")

    command_id: UUID
    reason: Reason = "by hand"
    value: dict[str, Any]


class ConfirmationBody(BaseModel):
    """The word that what came from somewhere is meant."""

    model_config = ConfigDict(extra="forbid")

    command_id: UUID
    reason: Reason = "by hand"


def create_configuration_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1/configuration."""
    routes = Blueprint("configuration", __name__, url_prefix="/api/v1/configuration")

    @routes.get("/<name>")
    @operation(
        "A standing setting: schedule, retention, staleness, verification or rehearsal",
        answer=Configured,
        headers=ETAG,
        problems=(LogLost,),
    )
    @requires("read")
    def show(name: str) -> Response:
        return _answer(show_configuration(context, standing_model(name)))

    @routes.put("/<name>")
    @operation(
        "Set a standing setting, if it is still what was read",
        body=ChangeBody,
        idempotent="command_id",
        answer=Configured,
        takes_headers=IF_MATCH,
        headers=ETAG,
        problems=(
            PreconditionMissing,
            ConfigurationChanged,
            ChangeOnItsWay,
            RestoreInProgress,
            StoreBehind,
            EpochChanged,
            FenceOpen,
        ),
    )
    @requires("configure")
    def change(name: str) -> Response:
        command = parse_configure(standing_model(name), _with_if_match(command_body()))
        return _answer(configure(context, command, http_requester()))

    @routes.post("/<name>/confirm")
    @operation(
        "Let what a restore or somebody else brought hold",
        body=ConfirmationBody,
        idempotent="command_id",
        answer=Configured,
        takes_headers=IF_MATCH,
        headers=ETAG,
        problems=(
            PreconditionMissing,
            ConfigurationChanged,
            NothingToConfirm,
            ChangeOnItsWay,
            RestoreInProgress,
        ),
    )
    @requires("configure")
    def confirmation(name: str) -> Response:
        command = parse_confirm(standing_model(name), _with_if_match(command_body()))
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
