"""The HTTP interface of a service's audit trail: a page of it, all of it, and whether it holds."""

from __future__ import annotations

import itertools

from flask import Blueprint, Response, jsonify

from serving.api import operation, query
from serving.audit.query import AuditFilter, AuditQuery, VerifyQuery
from serving.audit.reader import AuditReader
from serving.caller import requires
from serving.requester import http_requester
from shared.api.audit import AuditPage, AuditReport

LINES = "application/x-ndjson"


def create_audit_routes(reader: AuditReader) -> Blueprint:
    """Return the routes below /api/v1/audit."""
    routes = Blueprint("audit", __name__, url_prefix="/api/v1/audit")

    @routes.get("")
    @operation("The audit trail: filtered, a page of it", query=AuditQuery, answer=AuditPage)
    @requires("read_audit")
    def list_entries() -> Response:
        return jsonify(reader.page(query(AuditQuery)))

    @routes.get("/export")
    @operation(
        "The entries as JSON lines, from the first one; unfiltered they can be verified anywhere",
        query=AuditFilter,
        gives=LINES,
        headers={"Content-Disposition": "A name for the file."},
    )
    @requires("read_audit")
    def export() -> Response:
        asked = query(AuditFilter)
        reader.note_export(asked, http_requester())
        lines = reader.lines(asked)
        # The first batch before anything is sent: what fails by then is a problem, not a torn file.
        first = next(lines)
        return Response(
            itertools.chain([first], lines),
            content_type=LINES,
            headers={"Content-Disposition": f'attachment; filename="audit-{reader.service}.jsonl"'},
        )

    @routes.get("/verify")
    @operation(
        "Check the whole chain, and name the first bad entry", query=VerifyQuery, answer=AuditReport
    )
    @requires("read_audit")
    def verify() -> Response:
        return jsonify(reader.verify(http_requester(), query(VerifyQuery)))

    return routes
