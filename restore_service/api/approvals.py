"""The HTTP interface of approvals: the policy, an approval, and the start behind it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel, ConfigDict

from restore_service.commands import (
    Approve,
    ChangeApproval,
    ReceiptDigest,
    SealedKey,
    StartRestore,
    parse_command,
)
from restore_service.context import RestoreContext
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.change_policy import change_policy, show_policy
from restore_service.handlers.start_restore import start_restore
from serving.api import accepted, command_body, operation
from serving.caller import requires
from serving.requester import http_requester
from shared.api.restores import ApprovalPolicy, Restore
from shared.errors import (
    AnotherKey,
    ApprovalExpired,
    ApprovalMissing,
    ConflictError,
    NothingToApprove,
    OutsideWindow,
    OwnRequest,
    PolicyChangeNotFound,
    RestoreInProgress,
    RestoreNotFound,
    SealedKeyRefused,
    TooFewApprovers,
)


class ApproveBody(BaseModel):
    """What an approval says beside its address."""

    model_config = ConfigDict(extra="forbid")

    command_id: UUID


class StartBody(ApproveBody):
    """What a start says beside its address; ``sealed_key`` is the hex of an age file."""

    sealed_key: SealedKey
    receipt_sha256: ReceiptDigest | None = None


def create_approval_routes(context: RestoreContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("approvals", __name__, url_prefix="/api/v1")

    @routes.get("/approval-policy")
    @operation("Whether restores need another person's approval", answer=ApprovalPolicy)
    @requires("configure")
    def policy() -> Response:
        return jsonify(show_policy(context))

    @routes.post("/approval-policy")
    @operation(
        "Switch the policy on, or ask for it to be switched off",
        body=ChangeApproval,
        idempotent="command_id",
        answer=ApprovalPolicy,
        problems=(TooFewApprovers, ConflictError),
    )
    @requires("configure")
    def change() -> Response:
        command = parse_command(ChangeApproval, command_body())
        return jsonify(change_policy(context, command, http_requester()))

    @routes.post("/approval-policy/changes/<change_id>/approve")
    @operation(
        "Approve a change of the policy that another person asked for",
        body=ApproveBody,
        idempotent="command_id",
        answer=ApprovalPolicy,
        problems=(OwnRequest, ApprovalExpired, NothingToApprove, PolicyChangeNotFound),
    )
    @requires("approve")
    def approve_of_change(change_id: str) -> Response:
        command = parse_command(Approve, _body(change_id=change_id))
        return jsonify(approve(context, command, http_requester()))

    @routes.post("/restores/<restore_id>/approve")
    @operation(
        "Approve a restore that another person asked for",
        body=ApproveBody,
        idempotent="command_id",
        answer=Restore,
        problems=(OwnRequest, ApprovalExpired, NothingToApprove, RestoreNotFound),
    )
    @requires("approve")
    def approve_of_restore(restore_id: str) -> Response:
        command = parse_command(Approve, _body(restore_id=restore_id))
        return jsonify(approve(context, command, http_requester()))

    @routes.post("/restores/<restore_id>/start")
    @operation(
        "Begin a restore that was approved; the key is given again",
        body=StartBody,
        idempotent="command_id",
        headers={"Location": "Where to watch what becomes of it."},
        answer=Restore,
        status=202,
        problems=(
            RestoreNotFound,
            ApprovalMissing,
            ApprovalExpired,
            NothingToApprove,
            AnotherKey,
            SealedKeyRefused,
            OutsideWindow,
            RestoreInProgress,
        ),
    )
    @requires("restore", proven=True)
    def start(restore_id: str) -> Response:
        command = parse_command(StartRestore, _body(restore_id=restore_id))
        started = start_restore(context, command, http_requester())
        return accepted(started, f"/api/v1/restores/{started['restore_id']}")

    return routes


def _body(**named: str) -> Any:
    """Return the request's body with what its path names."""
    document = command_body()
    return document | named if isinstance(document, dict) else document
