"""The HTTP interface of rehearsals: each route builds a command or reads a model."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify

from restore_service.commands import RehearseRestore, parse_command
from restore_service.context import RestoreContext
from restore_service.handlers.request_rehearsal import cancel_rehearsal, request_rehearsal
from restore_service.rehearsal.events import ENDED, stream_of
from restore_service.rehearsal.view import show_schedule
from serving.api import accepted, command_body, operation, query
from serving.caller import WATCHERS, requires
from serving.requester import http_requester
from serving.watching import FOLLOWS, WAITS, WaitQuery, WatchBoard, Watched, follow, show
from shared.api.common import HistoryQuery
from shared.api.restores import Rehearsal, RehearsalPage, RehearsalSchedule
from shared.errors import (
    BackupNotFound,
    ConflictError,
    KeyMalformed,
    PartialScope,
    RehearsalInProgress,
    RehearsalNotFound,
    SealedKeyRefused,
    TargetMismatch,
    WatchersBusy,
)


def create_rehearsal_routes(context: RestoreContext, board: WatchBoard) -> Blueprint:
    """Return the routes below /api/v1/rehearsals."""
    routes = Blueprint("rehearsals", __name__, url_prefix="/api/v1/rehearsals")

    @routes.post("")
    @operation(
        "Rehearse a restore beside the instance",
        body=RehearseRestore,
        idempotent="command_id",
        answer=Rehearsal,
        status=202,
        headers={"Location": "Where to watch what becomes of it."},
        problems=(
            PartialScope,
            TargetMismatch,
            SealedKeyRefused,
            KeyMalformed,
            BackupNotFound,
            RehearsalInProgress,
        ),
    )
    @requires("restore")
    def start() -> Response:
        command = parse_command(RehearseRestore, command_body())
        rehearsal = request_rehearsal(context, command, http_requester())
        where = f"/api/v1/rehearsals/{rehearsal['rehearsal_id']}"
        return accepted(_shown(context, rehearsal), where)

    @routes.get("")
    @operation("All rehearsals, the newest first", query=HistoryQuery, answer=RehearsalPage)
    @requires("read", also=WATCHERS)
    def list_rehearsals() -> Response:
        wanted = query(HistoryQuery)
        with context.transaction("reading the rehearsals") as conn:
            return jsonify(context.rehearsals.page(conn, wanted.limit, wanted.before))

    @routes.get("/schedule")
    @operation(
        "When the newest backup is rehearsed by itself, and what came of it",
        answer=RehearsalSchedule,
    )
    @requires("read")
    def schedule() -> Response:
        return jsonify(show_schedule(context))

    @routes.get("/<rehearsal_id>")
    @operation(
        "One rehearsal, at once or when it has changed",
        answer=Rehearsal,
        problems=(RehearsalNotFound,),
        **WAITS,
    )
    @requires("read", also=WATCHERS)
    def show_one(rehearsal_id: str) -> Response:
        return show(board, _watched(context, rehearsal_id), query(WaitQuery).wait_s)

    @routes.get("/<rehearsal_id>/events")
    @operation(
        "One rehearsal as it changes: server-sent events",
        problems=(RehearsalNotFound, WatchersBusy),
        **FOLLOWS,
    )
    @requires("read", also=WATCHERS)
    def watch(rehearsal_id: str) -> Response:
        return follow(board, _watched(context, rehearsal_id))

    @routes.post("/<rehearsal_id>/cancel")
    @operation(
        "Give up a rehearsal that has not ended",
        answer=Rehearsal,
        problems=(RehearsalNotFound, ConflictError),
    )
    @requires("restore")
    def cancel(rehearsal_id: str) -> Response:
        return jsonify(cancel_rehearsal(context, _id(rehearsal_id), http_requester()))

    return routes


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise RehearsalNotFound(f"there is no rehearsal {text[:64]!r}") from None


def _watched(context: RestoreContext, rehearsal_id: str) -> Watched:
    identity = _id(rehearsal_id)
    return Watched(
        stream_of(identity),
        identity,
        lambda conn: context.rehearsals.get(conn, identity),
        lambda rehearsal: rehearsal["state"] in ENDED,
    )


def _shown(context: RestoreContext, rehearsal: dict[str, Any]) -> dict[str, Any]:
    return rehearsal | context.progress.of(rehearsal["rehearsal_id"])
