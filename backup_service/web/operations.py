"""Recent Operations: what was done to the instance's backups and restores, live."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from backup_service.context import BackupContext
from backup_service.operations import OperationsQuery
from backup_service.operations.fold import Kind, Outcome
from backup_service.operations.query import SEVERAL
from backup_service.web.words import KEYS
from serving.caller import requires
from serving.paging import parse_arguments
from shared.database import Connection, postgres_faults

ROWS: Final = 50
KINDS: Final = {kind: kind.value.replace("_", " ").capitalize() for kind in Kind}
OUTCOMES: Final = {
    Outcome.REQUESTED: ("wait", "Waiting"),
    Outcome.APPROVED: ("wait", "Approved"),
    Outcome.RUNNING: ("busy", "Running"),
    Outcome.SUCCEEDED: ("good", "Done"),
    Outcome.FAILED: ("bad", "Failed"),
    Outcome.CANCELLED: ("off", "Cancelled"),
}
FILTERS: Final = ("kind", "outcome", "actor")


def add_operation_pages(pages: Blueprint, context: BackupContext) -> None:
    """Add the pages below /admin/operations to ``pages``."""

    def listed() -> dict[str, Any]:
        """Return what the present request asks for; an empty field asks for nothing."""
        asked = {
            name: given
            for name, given in request.args.to_dict(flat=False).items()
            if any(given) and name in (*FILTERS, "cursor")
        }
        query = parse_arguments(OperationsQuery, asked | {"limit": [str(ROWS)]}, SEVERAL)
        with postgres_faults("reading the operations"), context.pool.connection() as conn:
            page = context.operations.page(conn, query)
            keys = _keys(context, conn, page["operations"])
        filters = {name: given for name, given in asked.items() if name != "cursor"}
        return {
            "page": page,
            "key_facts": keys,
            "keys": KEYS,
            "query": urlencode(filters, doseq=True),
            "asked": {name: given[0] for name, given in filters.items()},
            "first": query.cursor is None,
            "kinds": KINDS,
            "outcomes": OUTCOMES,
        }

    @pages.get("/operations")
    @requires("read")
    def operations() -> str:
        return render_template("operations/page.html", **listed())

    @pages.get("/operations/list")
    @requires("read")
    def operations_list() -> str:
        return render_template("operations/list.html", **listed())


def _keys(
    context: BackupContext, conn: Connection, operations: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return what became of the keys of the backups that are listed."""
    made = [
        found["subject"]
        for found in operations
        if found["kind"] == Kind.BACKUP and found["outcome"] == Outcome.SUCCEEDED
    ]
    return context.history.key_facts(conn, made)
