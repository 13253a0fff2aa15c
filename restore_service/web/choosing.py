"""Restore: which backup, with which key; and what was restored before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from flask import Blueprint, render_template, request

from restore_service.approval import APPROVE
from restore_service.context import RestoreContext
from restore_service.events import AWAITING_APPROVAL
from restore_service.uploads import find_upload
from restore_service.web.words import STATES
from serving.caller import current_caller, requires
from shared.archive.receipt import read_receipt
from shared.errors import SecrynError

OFFERED: Final = 8
_SUFFIX: Final = ".age"


def add_choosing_page(pages: Blueprint, context: RestoreContext) -> None:
    """Add the first page of a restore to ``pages``."""

    @pages.get("/")
    @requires("restore", also=(APPROVE,))
    def choose() -> str:
        typed = {"backup_id": request.args.get("backup", "")}
        if "upload" in request.args:
            typed = {"backup_id": "upload", "upload_id": request.args["upload"]}
        return choosing_page(context, typed, None)


def choosing_page(context: RestoreContext, typed: dict[str, str], error: SecrynError | None) -> str:
    """Return the page with what was ``typed``; never a key."""
    chooses = "restore" in current_caller().permissions
    offered = _offered(context) if chooses else []
    wanted = typed.get("backup_id", "")
    with context.transaction("reading the history") as conn:
        restores = context.history.page(conn, 10)["restores"]
        rehearsals = context.rehearsals.page(conn, 5)["rehearsals"]
    return render_template(
        "restores/choose.html",
        offered=offered,
        known=wanted in [found["backup_id"] for found in offered],
        wanted=wanted,
        typed=typed,
        error=error,
        upload_id=str(uuid4()),
        uploaded=_uploaded(context, typed.get("upload_id", "")),
        restores=restores,
        rehearsals=rehearsals,
        states=STATES,
        chooses=chooses,
        key_again=request.method == "POST" and error is None,
        waiting=_waiting(restores),
    )


def _waiting(restores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what waits for the approval of whoever looks, of the newest."""
    caller = current_caller()
    return [
        found
        for found in restores
        if found["state"] == AWAITING_APPROVAL
        and APPROVE in caller.permissions
        and found["requested_by"] != caller.name
    ]


def _uploaded(context: RestoreContext, upload_id: str) -> dict[str, Any] | None:
    """Return an upload that is whole, or None."""
    try:
        found = find_upload(context.uploads, str(UUID(upload_id)))
    except ValueError:
        return None
    return found if found["complete"] else None


def _offered(context: RestoreContext) -> list[dict[str, Any]]:
    """Return the newest backups of the storage, and what their receipts say of them."""
    return [
        {
            "backup_id": info.name.removesuffix(_SUFFIX),
            "size_bytes": info.size_bytes,
            "stored_at": datetime.fromtimestamp(info.modified_at, UTC),
            "facts": _facts(context, info.name.removesuffix(_SUFFIX)),
        }
        for info in context.backups.newest(_SUFFIX, OFFERED)
    ]


def _facts(context: RestoreContext, backup_id: str) -> dict[str, Any] | None:
    try:
        name = f"{backup_id}.receipt.json"
        signers = context.trusted_signers
        return read_receipt(context.backups, name, backup_id, signers, None).facts
    except SecrynError:
        # The file can be restored all the same: its own signature is what counts.
        return None
