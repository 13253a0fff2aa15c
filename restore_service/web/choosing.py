"""Restore: which backup, with which key; and what was restored before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from flask import Blueprint, render_template, request

from restore_service.context import RestoreContext
from restore_service.web.words import STATES
from serving.caller import requires
from shared.archive.receipt import read_receipt
from shared.errors import SecrynError

OFFERED: Final = 8
_SUFFIX: Final = ".age"


def add_choosing_page(pages: Blueprint, context: RestoreContext) -> None:
    """Add the first page of a restore to ``pages``."""

    @pages.get("/")
    @requires("restore")
    def choose() -> str:
        return choosing_page(context, {"backup_id": request.args.get("backup", "")}, None)


def choosing_page(context: RestoreContext, typed: dict[str, str], error: SecrynError | None) -> str:
    """Return the page with what was ``typed``; never a key."""
    offered = _offered(context)
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
        restores=restores,
        rehearsals=rehearsals,
        states=STATES,
    )


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
