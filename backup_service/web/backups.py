"""Backups: the health, the history, one backup with its whole story, a new one."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from backup_service.api.own import check_seen
from backup_service.api.routes import parse_backup_id
from backup_service.commands import (
    DeleteBackup,
    HoldBackup,
    ReleaseBackup,
    parse_command,
    parse_create,
)
from backup_service.context import BackupContext
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from backup_service.handlers.request_backup import cancel_backup, request_backup
from backup_service.handlers.verify_backup import verify_backup
from backup_service.operations import OperationsQuery
from backup_service.operations.fold import Kind, Outcome
from backup_service.web.health import key_wait, show_health
from backup_service.web.listing import Listing
from backup_service.web.story import story_of
from backup_service.web.words import KEYS, REHEARSALS, STATES, state_of, steps_of
from serving.caller import any_caller, current_caller, requires
from serving.requester import http_requester
from serving.web.frame import Frame
from shared.database import postgres_faults
from shared.errors import UsageError


def add_backup_pages(pages: Blueprint, context: BackupContext, frame: Frame) -> None:
    """Add the pages below /admin/backups to ``pages``."""
    words = {"states": STATES, "state_of": state_of, "keys": KEYS}

    @pages.get("/")
    @any_caller
    def home() -> BaseResponse:
        return frame.first_page()

    @pages.get("/backups")
    @requires("read")
    def backups() -> str:
        listing = Listing.read(request.args.to_dict(flat=False))
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            page = context.history.page(conn, listing.query)
        return render_template(
            "backups/list.html", page=page, listing=listing, health=show_health(context),
            approvals=_approvals(context), **words,
        )  # fmt: skip

    @pages.get("/backups/new")
    @requires("create")
    def new() -> str:
        empty = {"command_id": str(uuid4()), "reason": "", "recipients": ""}
        return render_template("backups/new.html", error=None, **empty)

    @pages.post("/backups")
    @requires("create")
    def create() -> BaseResponse | tuple[str, int]:
        typed = {
            name: request.form.get(name, "") for name in ("command_id", "reason", "recipients")
        }
        command = typed | {
            "reason": typed["reason"].strip(),
            "recipients": typed["recipients"].split(),
        }
        try:
            backup = request_backup(context, parse_create(command), http_requester())
        except UsageError as error:
            again = typed | {"command_id": _same_command(typed["command_id"])}
            return render_template("backups/new.html", error=error, **again), error.http_status
        return redirect(f"{frame.prefix}/backups/{backup['backup_id']}", 303)

    @pages.get("/backups/<backup_id>")
    @requires("read", also=("create",))
    def backup(backup_id: str) -> str:
        check_seen(context, parse_backup_id(backup_id))
        found = _found(context, backup_id)
        return render_template(
            "backups/detail.html",
            backup=found,
            steps=steps_of(found),
            story=story_of(context, found["backup_id"]),
            key_wait=key_wait(found, context.clock.now()),
            rehearsals=REHEARSALS,
            **words,
        )

    @pages.get("/backups/<backup_id>/progress")
    @requires("read", also=("create",))
    def progress(backup_id: str) -> str | Response:
        check_seen(context, parse_backup_id(backup_id))
        found = _found(context, backup_id)
        if found["state"] not in ("requested", "running"):
            # The whole page has something to say now.
            return Response(headers={"HX-Refresh": "true"})
        return render_template(
            "backups/progress.html", backup=found, steps=steps_of(found), **words
        )

    @pages.post("/backups/<backup_id>/cancel")
    @requires("create")
    def cancel(backup_id: str) -> BaseResponse:
        cancel_backup(context, parse_backup_id(backup_id), http_requester())
        return redirect(f"{frame.prefix}/backups/{parse_backup_id(backup_id)}", 303)

    @pages.post("/backups/<backup_id>/hold")
    @requires("hold")
    def hold(backup_id: str) -> BaseResponse:
        command = parse_command(HoldBackup, _decision("a hold in the browser"))
        hold_backup(context, parse_backup_id(backup_id), command, http_requester())
        return redirect(f"{frame.prefix}/backups/{parse_backup_id(backup_id)}#kept", 303)

    @pages.post("/backups/<backup_id>/release")
    @requires("hold")
    def release(backup_id: str) -> BaseResponse:
        document = _decision("a release in the browser") | {"holder": request.form.get("holder")}
        command = parse_command(ReleaseBackup, document)
        release_backup(context, parse_backup_id(backup_id), command, http_requester())
        return redirect(f"{frame.prefix}/backups/{parse_backup_id(backup_id)}#kept", 303)

    @pages.post("/backups/<backup_id>/delete")
    @requires("delete", proven=True)
    def delete(backup_id: str) -> BaseResponse:
        document = _decision("") | {"confirm": request.form.get("confirm", "").strip()}
        command = parse_command(DeleteBackup, document)
        delete_backup(context, parse_backup_id(backup_id), command, http_requester())
        return redirect(f"{frame.prefix}/backups/{parse_backup_id(backup_id)}", 303)

    @pages.post("/backups/<backup_id>/verify")
    @requires("read")
    def verify(backup_id: str) -> BaseResponse:
        verify_backup(context, parse_backup_id(backup_id), http_requester())
        return redirect(f"{frame.prefix}/backups/{parse_backup_id(backup_id)}#story", 303)


def _approvals(context: BackupContext) -> list[dict[str, Any]]:
    """Return the restores that wait for the approval of whoever looks."""
    caller = current_caller()
    if "approve" not in caller.permissions:
        return []
    asked = OperationsQuery(kind=(Kind.RESTORE,), outcome=(Outcome.REQUESTED,))
    with postgres_faults("reading the operations"), context.pool.connection() as conn:
        found = context.operations.page(conn, asked)["operations"]
    now = context.clock.now()
    return [
        operation
        for operation in found
        if (until := operation["details"].get("expires_at")) is not None
        and datetime.fromisoformat(until) > now
        and operation["actor"] != caller.name
    ]


def _decision(reason: str) -> dict[str, Any]:
    return {
        "command_id": str(uuid4()),
        "reason": request.form.get("reason", "").strip() or reason,
    }


def _same_command(text: str) -> str:
    """Return the id that a form came with, or a new one where it was none."""
    try:
        return str(UUID(text))
    except ValueError:
        return str(uuid4())


def _found(context: BackupContext, backup_id: str) -> dict[str, Any]:
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        found = context.history.get(conn, parse_backup_id(backup_id))
    return found | context.progress.of(found["backup_id"])
