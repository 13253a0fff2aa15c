"""The HTTP interface of restore_service: each route builds a command or reads a model."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify
from pydantic import Field

from restore_service.commands import (
    PreviewRestore,
    ReapplyVoided,
    RestoreInstance,
    UndoRestore,
    parse_command,
)
from restore_service.context import RestoreContext
from restore_service.events import ENDED, stream_of
from restore_service.handlers.reapply_voided import reapply_voided
from restore_service.handlers.request_preview import request_preview
from restore_service.handlers.request_restore import cancel_restore, request_restore
from restore_service.handlers.request_undo import request_undo
from restore_service.previews import FAILED, PREVIEWED
from restore_service.recipient.publish import publish_recipient
from restore_service.space import measure_space
from restore_service.voided import page_of_voided
from serving.api import LOCATION, accepted, command_body, operation, query
from serving.caller import WATCHERS, current_caller, requires
from serving.requester import http_requester
from serving.watching import FOLLOWS, WAITS, WaitQuery, WatchBoard, Watched, follow, show
from shared.api.common import PAGE_MAX, HistoryQuery, PageQuery
from shared.api.restores import (
    Preview,
    ReappliedEvents,
    Recipient,
    Restore,
    RestorePage,
    Space,
    VoidedPage,
)
from shared.errors import (
    AccessError,
    BackupNotFound,
    ConflictError,
    FenceOpen,
    KeyMalformed,
    KeyringError,
    NotUndoable,
    NotVoided,
    OutsideWindow,
    PartialScope,
    PreviewNotFound,
    PreviewsBusy,
    RestoreInProgress,
    RestoreNotFound,
    SealedKeyRefused,
    TargetMismatch,
    TooFewApprovers,
    WatchersBusy,
)

RESTORES = "/api/v1/restores"


class VoidedQuery(PageQuery):
    """Which page of what a restore made void is wanted: behind the offset ``after``."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    after: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


def create_routes(context: RestoreContext, board: WatchBoard) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("restores", __name__, url_prefix="/api/v1")

    @routes.get("/recipient")
    @operation("The recipient to seal keys to now", answer=Recipient)
    @requires("read", also=("restore",))
    def recipient() -> Response:
        present = publish_recipient(context)
        return jsonify({"recipient": present.recipient, "expires_at": present.expires_at})

    @routes.post("/restores")
    @operation(
        "Replace the whole instance by a backup",
        body=RestoreInstance,
        idempotent="command_id",
        answer=Restore,
        status=202,
        headers=LOCATION,
        problems=(
            PartialScope,
            TargetMismatch,
            OutsideWindow,
            SealedKeyRefused,
            KeyMalformed,
            BackupNotFound,
            RestoreInProgress,
            TooFewApprovers,
        ),
    )
    @requires("restore", proven=True)
    def start() -> Response:
        restore = request_restore(
            context, parse_command(RestoreInstance, command_body()), http_requester()
        )
        return accepted(_shown(context, restore), f"{RESTORES}/{restore['restore_id']}")

    @routes.post("/previews")
    @operation(
        "See what a restore would undo; nothing is changed",
        body=PreviewRestore,
        idempotent="command_id",
        answer=Preview,
        status=202,
        headers=LOCATION,
        problems=(
            PartialScope,
            TargetMismatch,
            SealedKeyRefused,
            KeyMalformed,
            BackupNotFound,
            PreviewsBusy,
        ),
    )
    @requires("restore")
    def preview() -> Response:
        command = parse_command(PreviewRestore, command_body())
        asked = request_preview(context, command, http_requester())
        return accepted(asked, f"/api/v1/previews/{asked['preview_id']}")

    @routes.get("/previews/<preview_id>")
    @operation(
        "One preview, at once or when it has changed",
        answer=Preview,
        problems=(PreviewNotFound,),
        **WAITS,
    )
    @requires("restore")
    def show_preview(preview_id: str) -> Response:
        return show(board, _watched_preview(context, preview_id), query(WaitQuery).wait_s)

    @routes.get("/previews/<preview_id>/events")
    @operation(
        "One preview as it changes: server-sent events",
        problems=(PreviewNotFound, WatchersBusy),
        **FOLLOWS,
    )
    @requires("restore")
    def watch_preview(preview_id: str) -> Response:
        return follow(board, _watched_preview(context, preview_id))

    @routes.post("/undos")
    @operation(
        "Put back what the last restore replaced",
        body=UndoRestore,
        idempotent="command_id",
        answer=Restore,
        status=202,
        headers=LOCATION,
        problems=(TargetMismatch, NotUndoable, RestoreInProgress),
    )
    @requires("restore", or_one="undo_one", proven=True)
    def undo() -> Response:
        command = parse_command(UndoRestore, command_body())
        _check_only(str(command.restore_id))
        asked = request_undo(context, command, http_requester())
        return accepted(_shown(context, asked), f"{RESTORES}/{asked['restore_id']}")

    @routes.get("/space")
    @operation("What a restore needs on the database's disk", answer=Space)
    @requires("read", also=("restore",))
    def space() -> Response:
        with context.transaction("looking at the space") as conn:
            return jsonify(measure_space(conn, context.settings.restore))

    @routes.get("/restores")
    @operation("All restores and undos, the newest first", query=HistoryQuery, answer=RestorePage)
    @requires("read", also=WATCHERS)
    def list_restores() -> Response:
        wanted = query(HistoryQuery)
        with context.transaction("reading the history") as conn:
            return jsonify(context.history.page(conn, wanted.limit, wanted.before))

    @routes.get("/restores/<restore_id>")
    @operation(
        "One restore, at once or when it has changed",
        answer=Restore,
        problems=(RestoreNotFound,),
        **WAITS,
    )
    @requires("read", or_one="watch_one", also=WATCHERS)
    def show_one(restore_id: str) -> Response:
        _check_only(restore_id)
        return show(board, _watched(context, restore_id), query(WaitQuery).wait_s)

    @routes.get("/restores/<restore_id>/events")
    @operation(
        "One restore as it changes: server-sent events",
        problems=(RestoreNotFound, WatchersBusy),
        **FOLLOWS,
    )
    @requires("read", or_one="watch_one", also=WATCHERS)
    def watch(restore_id: str) -> Response:
        _check_only(restore_id)
        return follow(board, _watched(context, restore_id))

    @routes.get("/restores/<restore_id>/voided")
    @operation(
        "What a restore made void, in the order of the log",
        query=VoidedQuery,
        answer=VoidedPage,
        problems=(RestoreNotFound, NotVoided),
    )
    @requires("read", also=WATCHERS)
    def voided(restore_id: str) -> Response:
        wanted = query(VoidedQuery)
        return jsonify(page_of_voided(context, _id(restore_id), wanted.after, wanted.limit))

    @routes.post("/restores/<restore_id>/reapply")
    @operation(
        "Append voided events again",
        body=ReapplyVoided,
        answer=ReappliedEvents,
        problems=(
            TargetMismatch,
            RestoreNotFound,
            NotVoided,
            KeyringError,
            RestoreInProgress,
            FenceOpen,
        ),
    )
    @requires("restore")
    def reapply(restore_id: str) -> Response:
        command = parse_command(ReapplyVoided, command_body())
        return jsonify(reapply_voided(context, _id(restore_id), command, http_requester()))

    @routes.post("/restores/<restore_id>/cancel")
    @operation(
        "Give up a restore, until its cut-over begins",
        answer=Restore,
        problems=(RestoreNotFound, ConflictError),
    )
    @requires("restore")
    def cancel(restore_id: str) -> Response:
        return jsonify(cancel_restore(context, _id(restore_id), http_requester()))

    return routes


def _check_only(restore_id: str) -> None:
    """Refuse a receipt for anything but its own restore. Raises AccessError."""
    only = current_caller().only
    if only is not None and only != restore_id:
        raise AccessError("a receipt is for its own restore alone")


def _id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise RestoreNotFound(f"there is no restore {text[:64]!r}") from None


def _watched(context: RestoreContext, restore_id: str) -> Watched:
    identity = _id(restore_id)
    return Watched(
        stream_of(identity),
        identity,
        lambda conn: context.history.get(conn, identity),
        lambda restore: restore["state"] in ENDED,
    )


def _watched_preview(context: RestoreContext, preview_id: str) -> Watched:
    identity = preview_id[:64]
    return Watched(
        f"preview-{identity}",
        identity,
        lambda _: context.previews.get(identity),
        lambda preview: preview["state"] in (PREVIEWED, FAILED),
        lambda _: context.previews.changes(identity),
    )


def _shown(context: RestoreContext, restore: dict[str, Any]) -> dict[str, Any]:
    return restore | context.progress.of(restore["restore_id"])
