"""A restore, an undo or a rehearsal: its live steps, its outcome with proof, and Undo."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from restore_service.commands import (
    Approve,
    StartRestore,
    UndoRestore,
    parse_command,
    restore_id_of,
)
from restore_service.context import RestoreContext
from restore_service.events import ENDED
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.request_rehearsal import cancel_rehearsal
from restore_service.handlers.request_restore import cancel_restore
from restore_service.handlers.request_undo import request_undo
from restore_service.handlers.start_restore import start_restore
from restore_service.rehearsal.events import ENDED as REHEARSAL_ENDED
from restore_service.web.asked import confirmed_environment, sealed_start
from restore_service.web.receipt import Starter, give_receipt, keep_seed, present_starter
from restore_service.web.words import ACCESS, REHEARSAL_STEPS, RESTORE_STEPS, STATES, steps_of
from serving.caller import WATCHERS, current_caller, requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.errors import AccessError, RestoreNotFound, SecrynError

REFRESH = {"HX-Refresh": "true"}


def add_watching_pages(pages: Blueprint, context: RestoreContext, frame: Frame) -> None:
    """Add the pages of what was asked for to ``pages``."""

    def page_of(
        restore_id: str, error: SecrynError | None = None, *, key_again: bool = False
    ) -> str:
        restore = _restore(context, restore_id)
        return render_template(
            "restores/restore.html",
            restore=restore,
            steps=steps_of(restore, RESTORE_STEPS),
            over=restore["state"] in ENDED,
            undo_until=_undo_until(context, restore),
            error=error,
            key_again=key_again,
            states=STATES,
            access_titles=ACCESS,
            # Of the form: sent twice, it asks for one thing.
            command_id=request.form.get("command_id") or str(uuid4()),
        )

    def to(restore_id: str) -> Response:
        return make_response(redirect(f"{frame.prefix}/restores/{restore_id}", 303))

    @pages.get("/restores/<restore_id>")
    @requires("read", or_one="watch_one", also=WATCHERS)
    def restore(restore_id: str) -> Response:
        return keep_seed(context, make_response(page_of(restore_id)), present_starter(context))

    @pages.get("/restores/<restore_id>/progress")
    @requires("read", or_one="watch_one", also=WATCHERS)
    def restore_progress(restore_id: str) -> str | Response:
        found = _restore(context, restore_id)
        if found["state"] not in ("requested", "running"):
            return Response(headers=REFRESH)
        return render_template(
            "restores/progress.html", found=found, steps=steps_of(found, RESTORE_STEPS),
            path=f"{frame.prefix}/restores/{found['restore_id']}/progress",
        )  # fmt: skip

    @pages.post("/restores/<restore_id>/cancel")
    @requires("restore")
    def cancel(restore_id: str) -> BaseResponse:
        cancel_restore(context, _restore(context, restore_id)["restore_id"], http_requester())
        return to(restore_id)

    @pages.post("/restores/<restore_id>/undo")
    @requires("restore", or_one="undo_one", proven=True)
    def undo(restore_id: str) -> BaseResponse:
        undone_by = current_caller().only
        if undone_by is not None and undone_by == _undo_asked_for():
            # The form a second time: its first answer has brought the receipt of the undo.
            return to(undone_by)
        restore_id = _restore(context, restore_id)["restore_id"]
        starter = present_starter(context)
        try:
            undone = request_undo(
                context, _undo_command(context, restore_id, starter), http_requester()
            )
        except SecrynError as error:
            return make_response(page_of(restore_id, error), error.http_status)
        return give_receipt(context, to(undone["restore_id"]), undone["restore_id"], starter)

    @pages.post("/restores/<restore_id>/approve")
    @requires("approve")
    def approve_of(restore_id: str) -> BaseResponse:
        restore_id = _restore(context, restore_id)["restore_id"]
        command = parse_command(Approve, {"command_id": str(uuid4()), "restore_id": restore_id})
        try:
            approve(context, command, http_requester())
        except SecrynError as error:
            return make_response(page_of(restore_id, error), error.http_status)
        return to(restore_id)

    @pages.post("/restores/<restore_id>/begin")
    @requires("restore", proven=True)
    def begin(restore_id: str) -> BaseResponse:
        found, starter = _restore(context, restore_id), present_starter(context)
        document = {
            "command_id": request.form.get("command_id") or str(uuid4()),
            "restore_id": found["restore_id"],
            "receipt_sha256": starter.sha256_of(found["restore_id"]),
        }
        if "key" not in request.form:
            return make_response(page_of(restore_id, key_again=True))
        try:
            document["sealed_key"] = sealed_start(context, found, request.form.get("key", ""))
            start_restore(context, parse_command(StartRestore, document), http_requester())
        except SecrynError as error:
            return make_response(page_of(restore_id, error), error.http_status)
        return give_receipt(context, to(restore_id), found["restore_id"], starter)

    @pages.get("/rehearsals/<rehearsal_id>")
    @requires("read", also=WATCHERS)
    def rehearsal(rehearsal_id: str) -> str:
        found = _rehearsal(context, rehearsal_id)
        return render_template(
            "restores/rehearsal.html", rehearsal=found, steps=steps_of(found, REHEARSAL_STEPS),
            over=found["state"] in REHEARSAL_ENDED, states=STATES,
        )  # fmt: skip

    @pages.get("/rehearsals/<rehearsal_id>/progress")
    @requires("read", also=WATCHERS)
    def rehearsal_progress(rehearsal_id: str) -> str | Response:
        found = _rehearsal(context, rehearsal_id)
        if found["state"] in REHEARSAL_ENDED:
            return Response(headers=REFRESH)
        return render_template(
            "restores/progress.html", found=found, steps=steps_of(found, REHEARSAL_STEPS),
            path=f"{frame.prefix}/rehearsals/{found['rehearsal_id']}/progress",
        )  # fmt: skip

    @pages.post("/rehearsals/<rehearsal_id>/cancel")
    @requires("restore")
    def cancel_the_rehearsal(rehearsal_id: str) -> BaseResponse:
        found = _rehearsal(context, rehearsal_id)["rehearsal_id"]
        cancel_rehearsal(context, found, http_requester())
        return redirect(f"{frame.prefix}/rehearsals/{found}", 303)


def _undo_asked_for() -> str | None:
    """Return the id of the undo that the form asks for, or None for a form without one."""
    try:
        return str(restore_id_of(UUID(request.form.get("command_id", ""))))
    except ValueError:
        return None


def _undo_command(context: RestoreContext, restore_id: str, starter: Starter) -> UndoRestore:
    place = context.settings.place
    document = {
        "command_id": request.form.get("command_id") or str(uuid4()),
        "target_instance_id": str(place.instance_id),
        "restore_id": restore_id,
        "reason": request.form.get("reason", "").strip(),
        "environment": confirmed_environment(request.form, place),
    }
    command = parse_command(UndoRestore, document)
    receipt_sha256 = starter.sha256_of(str(command.undo_id))
    return command.model_copy(update={"receipt_sha256": receipt_sha256})


def _restore(context: RestoreContext, restore_id: str) -> dict[str, Any]:
    """Return a restore as it stands. Raises RestoreNotFound, and AccessError for a receipt."""
    try:
        identity = str(UUID(restore_id))
    except ValueError:
        raise RestoreNotFound(f"there is no restore {restore_id[:64]!r}") from None
    if current_caller().only not in (None, identity):
        raise AccessError("a receipt is for its own restore alone")
    with context.transaction("reading the history") as conn:
        found = context.history.get(conn, identity)
    return found | context.progress.of(identity)


def _rehearsal(context: RestoreContext, rehearsal_id: str) -> dict[str, Any]:
    try:
        identity = str(UUID(rehearsal_id))
    except ValueError:
        raise RestoreNotFound(f"there is no rehearsal {rehearsal_id[:64]!r}") from None
    with context.transaction("reading the rehearsals") as conn:
        found = context.rehearsals.get(conn, identity)
    return found | context.progress.of(identity)


def _undo_until(context: RestoreContext, restore: Mapping[str, Any]) -> datetime | None:
    """Return until when the last restore can be undone; None for every other."""
    if restore["state"] != "restored" or restore.get("kept_as") is None:
        return None
    with context.transaction("looking for the last restore") as conn:
        last = context.history.last_restored(conn)
    if last is None or last.restore_id != restore["restore_id"]:
        return None
    window = timedelta(seconds=context.settings.restore.undo_window_s)
    until = datetime.fromisoformat(restore["ended_at"]) + window
    return until if until > datetime.now(UTC) else None
