"""The HTTP interface of backup_service: each route builds a command or reads a model."""

from __future__ import annotations

import base64
import itertools
import re
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request

from backup_service.commands import parse_create
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.check_storage import check_storage
from backup_service.handlers.download_backup import begin_download, download
from backup_service.handlers.rebuild_history import PROGRESS, rebuild_history
from backup_service.handlers.request_backup import cancel_backup, request_backup
from backup_service.handlers.verify_backup import verify_backup
from backup_service.handlers.view_key import parse_view, view_key
from backup_service.history import all_pages, parse_query
from backup_service.history.query import PAGE_MAX
from backup_service.history.table import csv_lines
from backup_service.instance_view import digest_instance, show_instance, show_status
from backup_service.protection import recovery_point
from serving.caller import requires
from serving.requester import http_requester, json_body
from shared.database import postgres_faults
from shared.errors import BackupNotFound, ConflictError, UsageError

_RANGE = re.compile(r"^bytes=([0-9]+)-$")


def create_routes(context: BackupContext) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("backups", __name__, url_prefix="/api/v1")

    @routes.post("/backups")
    @requires("create")
    def create() -> tuple[Response, int]:
        backup = request_backup(context, parse_create(json_body()), http_requester())
        return jsonify(_shown(context, backup)), 202

    @routes.get("/backups")
    @requires("read")
    def list_backups() -> Response:
        query = parse_query(request.args.to_dict(flat=False))
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            page = context.history.page(conn, query)
            return jsonify(page | {"recovery_point": recovery_point(context, conn)})

    @routes.get("/backups.csv")
    @requires("read")
    def list_as_csv() -> Response:
        whole = {"limit": [str(PAGE_MAX)]}
        query = parse_query(request.args.to_dict(flat=False) | whole)
        lines = csv_lines(all_pages(context.history, context.pool.connection, query))
        # The first page before anything is sent: what fails by then is a problem, not a torn file.
        first = next(lines)
        return Response(
            (part.encode("utf-8") for part in itertools.chain([first], lines)),
            content_type="text/csv; charset=utf-8; header=present",
            headers={"Content-Disposition": 'attachment; filename="backups.csv"'},
        )

    @routes.post("/storage/check")
    @requires("read")
    def storage_check() -> Response:
        return jsonify(check_storage(context, http_requester()))

    @routes.post("/history/rebuild")
    @requires("configure")
    def rebuild() -> Response:
        return jsonify(rebuild_history(context, http_requester()))

    @routes.get("/history/rebuild")
    @requires("read")
    def rebuilding() -> Response:
        return jsonify({"state": "idle"} | context.progress.of(PROGRESS))

    @routes.get("/backups/<backup_id>")
    @requires("read")
    def show(backup_id: str) -> Response:
        return jsonify(_shown(context, _found(context, backup_id)))

    @routes.post("/backups/<backup_id>/cancel")
    @requires("create")
    def cancel(backup_id: str) -> Response:
        return jsonify(cancel_backup(context, parse_backup_id(backup_id), http_requester()))

    @routes.post("/backups/<backup_id>/key")
    @requires("view_key", proven=True)
    def key(backup_id: str) -> Response:
        return jsonify(
            view_key(context, parse_backup_id(backup_id), parse_view(json_body()), http_requester())
        )

    @routes.post("/backups/<backup_id>/verify")
    @requires("read")
    def verify(backup_id: str) -> Response:
        return jsonify(verify_backup(context, parse_backup_id(backup_id), http_requester()))

    @routes.get("/backups/<backup_id>/content")
    @requires("download")
    def content(backup_id: str) -> Response:
        return _download(context, _found(context, backup_id))

    @routes.get("/backups/<backup_id>/receipt")
    @requires("download")
    def receipt(backup_id: str) -> Response:
        with context.objects.open(receipt_name(parse_backup_id(backup_id))) as source:
            return Response(source.read(), content_type="application/json")

    @routes.get("/instance")
    @requires("read")
    def instance() -> Response:
        return jsonify(show_instance(context))

    @routes.get("/instance/digest")
    @requires("read")
    def digest() -> Response:
        return jsonify(digest_instance(context))

    @routes.get("/status")
    @requires("read")
    def status() -> Response:
        return jsonify(show_status(context))

    return routes


def parse_backup_id(text: str) -> str:
    """Return the id of a backup in its one form. Raises BackupNotFound."""
    try:
        return str(UUID(text))
    except ValueError:
        raise BackupNotFound(f"there is no backup {text[:64]!r}") from None


def _found(context: BackupContext, backup_id: str) -> dict[str, Any]:
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        return context.history.get(conn, parse_backup_id(backup_id))


def _shown(context: BackupContext, backup: dict[str, Any]) -> dict[str, Any]:
    return backup | context.progress.of(backup["backup_id"])


def _download(context: BackupContext, backup: dict[str, Any]) -> Response:
    """Stream the object; ``Range: bytes=N-`` goes on where a download broke off (RFC 9110)."""
    if backup["state"] != "created":
        raise ConflictError(f"the backup {backup['backup_id']} is {backup['state']}")
    size, start = backup["size_bytes"], 0
    wanted = request.headers.get("Range")
    if wanted is not None:
        matched = _RANGE.match(wanted)
        if matched is None or int(matched[1]) >= size:
            raise UsageError("only a range bytes=N- inside of the object is served")
        start = int(matched[1])
    name = object_name(backup["backup_id"])
    context.objects.stat(name)
    lease_id = begin_download(context, backup["backup_id"])
    digest = base64.b64encode(bytes.fromhex(backup["sha256"])).decode("ascii")
    headers = {
        "Content-Length": str(size - start),
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if wanted is not None:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    return Response(
        download(context, backup["backup_id"], start, lease_id),
        status=200 if wanted is None else 206,
        headers=headers,
        content_type="application/octet-stream",
    )
