"""The HTTP interface of Recent Operations: the list, and its changes as they happen."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from backup_service.context import BackupContext
from backup_service.operations import ChangesQuery, FollowQuery, OperationsQuery
from backup_service.operations.query import SEVERAL
from serving.api import operation
from serving.caller import requires
from serving.paging import parse_arguments
from serving.watching import EVENT_STREAM, WatchBoard, Watched, follow_list
from shared.api.operations import OperationChanges, OperationPage
from shared.database import postgres_faults
from shared.errors import WatchersBusy

LOOK_S: Final = 0.25
# Whoever waits holds a thread of the server: beyond these many nobody else does.
WAITERS_MAX: Final = 4


def create_operation_routes(context: BackupContext, board: WatchBoard) -> Blueprint:
    """Return the routes below /api/v1/operations."""
    routes = Blueprint("operations", __name__, url_prefix="/api/v1/operations")
    waiters = threading.BoundedSemaphore(WAITERS_MAX)

    @routes.get("")
    @operation("Recent Operations, a page of them", query=OperationsQuery, answer=OperationPage)
    @requires("read")
    def list_operations() -> Response:
        query = parse_arguments(OperationsQuery, request.args.to_dict(flat=False), SEVERAL)
        with postgres_faults("reading the operations"), context.pool.connection() as conn:
            return jsonify(context.operations.page(conn, query))

    @routes.get("/changes")
    @operation(
        "What changed in them, as soon as something has",
        query=ChangesQuery,
        answer=OperationChanges,
    )
    @requires("read")
    def changes() -> Response:
        query = parse_arguments(ChangesQuery, request.args.to_dict(flat=False), SEVERAL)
        waits = query.wait_s > 0 and waiters.acquire(blocking=False)
        try:
            return jsonify(wait_for_changes(context, query, query.wait_s if waits else 0.0))
        finally:
            if waits:
                waiters.release()

    @routes.get("/events")
    @operation(
        "What changes in them, as it does: server-sent events",
        query=FollowQuery,
        takes_headers={"Last-Event-ID": "The id of the last event that came."},
        gives=EVENT_STREAM,
        problems=(WatchersBusy,),
    )
    @requires("read")
    def follow() -> Response:
        asked = parse_arguments(FollowQuery, request.args.to_dict(flat=False), SEVERAL)

        def changed(after: int) -> list[dict[str, Any]]:
            query = asked.behind(after)
            with postgres_faults("reading the operations"), context.pool.connection() as conn:
                found: list[dict[str, Any]] = context.operations.changes(conn, query)["operations"]
            return found

        return follow_list(board, _watched(context), asked.after, changed, "operation")

    return routes


def _watched(context: BackupContext) -> Watched:
    position = context.operations.position
    name = "operations"
    return Watched(name, name, lambda conn: {"position": position(conn)}, lambda _: False, position)


def wait_for_changes(
    context: BackupContext, query: ChangesQuery, wait_s: float
) -> dict[str, object]:
    """Return what changed, as soon as something has or ``wait_s`` is over; holds no connection."""
    deadline = time.monotonic() + wait_s
    while True:
        with postgres_faults("reading the operations"), context.pool.connection() as conn:
            found = context.operations.changes(conn, query)
        if found["operations"] or time.monotonic() >= deadline or context.stop.is_set():
            return found
        context.stop.wait(LOOK_S)
