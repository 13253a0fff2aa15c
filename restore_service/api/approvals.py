"""The HTTP interface of approvals: the policy, an approval, and the start behind it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from restore_service.commands import Approve, ChangeApproval, StartRestore, parse_command
from restore_service.context import RestoreContext
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.change_policy import change_policy, show_policy
from restore_service.handlers.start_restore import start_restore
from serving.caller import requires
from serving.requester import http_requester, json_body


def create_approval_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("approvals", __name__, url_prefix="/api/v1")

    @routes.get("/approval-policy")
    @requires("configure")
    def policy() -> Response:
        return jsonify(show_policy(context))

    @routes.post("/approval-policy")
    @requires("configure")
    def change() -> Response:
        command = parse_command(ChangeApproval, json_body())
        return jsonify(change_policy(context, command, http_requester()))

    @routes.post("/approval-policy/changes/<change_id>/approve")
    @requires("approve")
    def approve_of_change(change_id: str) -> Response:
        command = parse_command(Approve, _body(change_id=change_id))
        return jsonify(approve(context, command, http_requester()))

    @routes.post("/restores/<restore_id>/approve")
    @requires("approve")
    def approve_of_restore(restore_id: str) -> Response:
        command = parse_command(Approve, _body(restore_id=restore_id))
        return jsonify(approve(context, command, http_requester()))

    @routes.post("/restores/<restore_id>/start")
    @requires("restore", proven=True)
    def start(restore_id: str) -> tuple[Response, int]:
        command = parse_command(StartRestore, _body(restore_id=restore_id))
        return jsonify(start_restore(context, command, http_requester())), 202

    return routes


def _body(**named: str) -> Any:
    """Return the request's body with what its path names."""
    document = json_body()
    return document | named if isinstance(document, dict) else document
