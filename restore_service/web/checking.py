"""Before anything is touched: the checks, what would be lost, and the decision."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from restore_service.approval import read_policy
from restore_service.context import RestoreContext
from restore_service.handlers.request_preview import request_preview
from restore_service.handlers.request_rehearsal import request_rehearsal
from restore_service.handlers.request_restore import request_restore
from restore_service.web.asked import Asked, ask, asked_again, confirmed_environment
from restore_service.web.choosing import choosing_page
from restore_service.web.receipt import give_receipt, present_starter, watches_another
from restore_service.web.words import ACCESS, checks_of
from serving.caller import requires
from serving.requester import http_requester
from serving.web.frame import Frame
from serving.web.words import ago
from shared.errors import PreviewNotFound, SecrynError

# A small instance's preview is over by then: its page needs no second look.
PATIENCE_S: Final = 1.5
ACTIVE: Final = timedelta(minutes=5)
SHOWN: Final = 20


def add_checking_pages(pages: Blueprint, context: RestoreContext, frame: Frame) -> None:
    """Add the pages between the choice and the start to ``pages``."""
    place = context.settings.place

    def page(asked: Asked, typed: Mapping[str, str], error: SecrynError | None) -> str:
        preview = request_preview(context, asked.preview(place), http_requester())
        deadline = time.monotonic() + PATIENCE_S
        while preview["state"] in ("requested", "running") and time.monotonic() < deadline:
            time.sleep(0.05)
            preview = context.previews.get(preview["preview_id"])
        shown = _shown(context, preview)
        return render_template(
            "restores/check.html", asked=asked, typed=typed, error=error, **shown
        )

    @pages.get("/check")
    @requires("restore")
    def nothing_asked() -> BaseResponse:
        return redirect(f"{frame.prefix}/")

    @pages.post("/check")
    @requires("restore", proven=True)
    def check() -> Response:
        if "key" not in request.form:
            # Who it is was asked on the way, and the key was not carried along.
            return make_response(choosing_page(context, request.form.to_dict(), None))
        try:
            asked = ask(context, request.form)
            answer = make_response(page(asked, {}, None))
            if watches_another(context, asked.restore_id):
                return answer
            # Before it starts: whichever answer to a form that is sent twice may get lost.
            return give_receipt(context, answer, asked.restore_id, present_starter(context))
        except SecrynError as error:
            typed = {name: value for name, value in request.form.items() if name != "key"}
            return make_response(choosing_page(context, typed, error), error.http_status)

    @pages.post("/check/again")
    @requires("restore")
    def again() -> Response:
        try:
            return make_response(page(asked_again(request.form), request.form, None))
        except SecrynError as error:
            # Of a preview that is gone only the form is left, and its sealed keys do not last.
            chosen = request.form.get("backup_id") or "upload"
            typed = request.form.to_dict() | {"backup_id": chosen}
            return make_response(choosing_page(context, typed, error), error.http_status)

    @pages.get("/previews/<preview_id>")
    @requires("restore")
    def preview_part(preview_id: str) -> str | Response:
        try:
            preview = context.previews.get(preview_id[:64])
        except PreviewNotFound as error:
            if "HX-Request" not in request.headers:
                raise
            return make_response(render_template("restores/preview_gone.html"), error.http_status)
        shown = _shown(context, preview | context.progress.of(preview["preview_id"]))
        return render_template("restores/preview.html", typed={}, **shown)

    @pages.post("/start")
    @requires("restore", proven=True)
    def start() -> BaseResponse:
        asked, form = asked_again(request.form), request.form
        starter = present_starter(context)
        try:
            restore = _start(context, asked, form, starter.sha256_of(asked.restore_id))
        except SecrynError as error:
            return make_response(page(asked, form, error), error.http_status)
        target = make_response(redirect(f"{frame.prefix}/restores/{restore['restore_id']}", 303))
        return give_receipt(context, target, restore["restore_id"], starter)

    @pages.post("/rehearse")
    @requires("restore")
    def rehearse() -> BaseResponse:
        asked = asked_again(request.form)
        reason = request.form.get("reason", "").strip() or "a rehearsal in the browser"
        try:
            command = asked.rehearse(place, reason)
            rehearsal = request_rehearsal(context, command, http_requester())
        except SecrynError as error:
            return make_response(page(asked, request.form, error), error.http_status)
        return redirect(f"{frame.prefix}/rehearsals/{rehearsal['rehearsal_id']}", 303)


def _start(
    context: RestoreContext, asked: Asked, form: Mapping[str, str], receipt_sha256: str
) -> dict[str, Any]:
    """Hand the restore to its handler; what was typed names the environment that is meant."""
    place = context.settings.place
    chosen: dict[str, Any] = {
        "environment": confirmed_environment(form, place),
        "receipt_sha256": receipt_sha256,
        "revoke_returning": form.get("revoke_returning") == "on",
        "running_backup": "cancel" if form.get("running_backup") == "cancel" else "wait",
    }
    if form.get("outside_window", "").strip():
        chosen["outside_window"] = form["outside_window"].strip()
    command = asked.restore(place.instance_id, form.get("reason", "").strip(), chosen)
    return request_restore(context, command, http_requester())


def _shown(context: RestoreContext, preview: dict[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a preview, and of this moment."""
    settings = context.settings.restore
    with context.transaction("reading the policy") as conn:
        policy = read_policy(context, conn)
        rehearsals = context.rehearsals.page(conn, 20)["rehearsals"]
    now = datetime.now(UTC)
    facts = preview.get("archive")
    return {
        "preview": preview,
        "checks": checks_of(preview),
        "age": None if facts is None else ago(facts["created_at"], now),
        "active": _active(preview, now),
        "access_titles": ACCESS,
        "most_shown": SHOWN,
        "expected": next((e for found in rehearsals if (e := found.get("estimate"))), None),
        "approval": policy.required,
        "in_window": settings.in_window(settings.begins_at(now)),
        "windows": settings.windows,
        "window_zone": settings.window_zone,
        "undo_s": settings.undo_window_s,
        "another": facts is not None
        and facts["source_instance_id"] != str(context.settings.place.instance_id),
    }


def _active(preview: Mapping[str, Any], now: datetime) -> list[str]:
    """Return who wrote in the last minutes, as far as the newest events tell."""
    newest = preview.get("events", {}).get("newest", [])
    recent = [e for e in newest if now - datetime.fromisoformat(e["time"]) < ACTIVE]
    return sorted({str(event["actor"]) for event in recent})
