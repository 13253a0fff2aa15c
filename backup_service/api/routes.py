"""The HTTP interface of backup_service: each route builds a command or reads a model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request

from backup_service.api.own import check_seen
from backup_service.commands import CreateBackup, parse_create
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.events import ENDED, stream_of
from backup_service.handlers.check_storage import check_storage
from backup_service.handlers.download_backup import begin_download, download
from backup_service.handlers.rebuild_history import PROGRESS, rebuild_history
from backup_service.handlers.request_backup import cancel_backup, request_backup
from backup_service.handlers.verify_backup import verify_backup
from backup_service.handlers.view_key import ViewKey, parse_view, view_key
from backup_service.history import all_pages, parse_query
from backup_service.history.query import PAGE_MAX, HistoryQuery
from backup_service.history.table import csv_lines
from backup_service.instance_view import digest_instance, show_instance, show_status
from backup_service.protection import recovery_point
from serving.api import LOCATION, accepted, command_body, operation, query
from serving.api.download import GIVES, TAKES, StoredObject, send_object
from serving.caller import requires
from serving.requester import http_requester
from serving.watching import FOLLOWS, WAITS, WaitQuery, WatchBoard, Watched, follow, show
from shared.api.backups import (
    Backup,
    BackupPage,
    HistoryRebuild,
    RebuiltHistory,
    SealedKey,
    SignedReceipt,
    StorageReport,
    Verified,
)
from shared.api.instance import Instance, InstanceDigest, StoreStatus
from shared.database import postgres_faults
from shared.errors import (
    BackupNotFound,
    ConflictError,
    KeyAlreadyViewed,
    KeyExpired,
    KeyNotReady,
    ObjectNotFound,
    PartialScope,
    RangeUnsatisfiable,
    RestoreInProgress,
    WatchersBusy,
)


def create_routes(context: BackupContext, board: WatchBoard) -> Blueprint:
    """Return the routes below /api/v1."""
    routes = Blueprint("backups", __name__, url_prefix="/api/v1")

    @routes.post("/backups")
    @operation(
        "Ask for a backup of the whole instance",
        body=CreateBackup,
        idempotent="command_id",
        answer=Backup,
        status=202,
        headers=LOCATION,
        problems=(PartialScope, RestoreInProgress),
    )
    @requires("create")
    def create() -> Response:
        backup = request_backup(context, parse_create(command_body()), http_requester())
        return accepted(_shown(context, backup), f"/api/v1/backups/{backup['backup_id']}")

    @routes.get("/backups")
    @operation("The history: filtered, sorted, a page of it", query=HistoryQuery, answer=BackupPage)
    @requires("read")
    def list_backups() -> Response:
        asked = parse_query(request.args.to_dict(flat=False))
        with postgres_faults("reading the history"), context.pool.connection() as conn:
            page = context.history.page(conn, asked)
            return jsonify(page | {"recovery_point": recovery_point(context, conn)})

    @routes.get("/backups.csv")
    @operation("The whole history, as filtered and sorted", query=HistoryQuery, gives="text/csv")
    @requires("read")
    def list_as_csv() -> Response:
        whole = {"limit": [str(PAGE_MAX)]}
        asked = parse_query(request.args.to_dict(flat=False) | whole)
        lines = csv_lines(all_pages(context.history, context.pool.connection, asked))
        # The first page before anything is sent: what fails by then is a problem, not a torn file.
        first = next(lines)
        return Response(
            (part.encode("utf-8") for part in itertools.chain([first], lines)),
            content_type="text/csv; charset=utf-8; header=present",
            headers={"Content-Disposition": 'attachment; filename="backups.csv"'},
        )

    @routes.post("/storage/check")
    @operation("Compare the storage with the history", answer=StorageReport)
    @requires("read")
    def storage_check() -> Response:
        return jsonify(check_storage(context, http_requester()))

    @routes.post("/history/rebuild")
    @operation(
        "Make the history anew from the events", answer=RebuiltHistory, problems=(ConflictError,)
    )
    @requires("configure")
    def rebuild() -> Response:
        return jsonify(rebuild_history(context, http_requester()))

    @routes.get("/history/rebuild")
    @operation("How far that is", answer=HistoryRebuild)
    @requires("read")
    def rebuilding() -> Response:
        return jsonify({"state": "idle"} | context.progress.of(PROGRESS))

    @routes.get("/backups/<backup_id>")
    @operation(
        "One backup, at once or when it has changed",
        answer=Backup,
        problems=(BackupNotFound,),
        **WAITS,
    )
    @requires("read", also=("create",))
    def show_one(backup_id: str) -> Response:
        check_seen(context, parse_backup_id(backup_id))
        return show(board, _watched(context, backup_id), query(WaitQuery).wait_s)

    @routes.get("/backups/<backup_id>/events")
    @operation(
        "One backup as it changes: server-sent events",
        problems=(BackupNotFound, WatchersBusy),
        **FOLLOWS,
    )
    @requires("read", also=("create",))
    def watch(backup_id: str) -> Response:
        check_seen(context, parse_backup_id(backup_id))
        return follow(board, _watched(context, backup_id))

    @routes.post("/backups/<backup_id>/cancel")
    @operation(
        "Give up a backup that has not ended",
        answer=Backup,
        problems=(BackupNotFound, ConflictError),
    )
    @requires("create")
    def cancel(backup_id: str) -> Response:
        return jsonify(cancel_backup(context, parse_backup_id(backup_id), http_requester()))

    @routes.post("/backups/<backup_id>/key")
    @operation(
        "Take the one-time key of a backup, sealed to a recipient of the caller's own",
        body=ViewKey,
        idempotent="request_id",
        answer=SealedKey,
        problems=(BackupNotFound, KeyNotReady, KeyAlreadyViewed, KeyExpired, ConflictError),
    )
    @requires("view_key", proven=True)
    def key(backup_id: str) -> Response:
        return jsonify(
            view_key(
                context, parse_backup_id(backup_id), parse_view(command_body()), http_requester()
            )
        )

    @routes.post("/backups/<backup_id>/verify")
    @operation(
        "Read the stored object back and compare it, without its key",
        answer=Verified,
        problems=(BackupNotFound, ConflictError),
    )
    @requires("read")
    def verify(backup_id: str) -> Response:
        return jsonify(verify_backup(context, parse_backup_id(backup_id), http_requester()))

    @routes.get("/backups/<backup_id>/content")
    @operation(
        "The encrypted object itself",
        takes_headers=TAKES,
        gives="application/octet-stream",
        headers=GIVES,
        status=(200, 206, 304),
        problems=(BackupNotFound, ConflictError, ObjectNotFound, RangeUnsatisfiable),
    )
    @requires("download")
    def content(backup_id: str) -> Response:
        return _download(context, _found(context, backup_id))

    @routes.get("/backups/<backup_id>/receipt")
    @operation(
        "The signed receipt of a backup",
        answer=SignedReceipt,
        problems=(BackupNotFound, ObjectNotFound),
    )
    @requires("download")
    def receipt(backup_id: str) -> Response:
        with context.objects.open(receipt_name(parse_backup_id(backup_id))) as source:
            return Response(source.read(), content_type="application/json")

    @routes.get("/instance")
    @operation("What is in the instance", answer=Instance)
    @requires("read")
    def instance() -> Response:
        return jsonify(show_instance(context))

    @routes.get("/instance/digest")
    @operation("The canonical digest of the whole state", answer=InstanceDigest)
    @requires("read")
    def digest() -> Response:
        return jsonify(digest_instance(context))

    @routes.get("/status")
    @operation("How far the store is behind the log", answer=StoreStatus)
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


def _watched(context: BackupContext, backup_id: str) -> Watched:
    identity = parse_backup_id(backup_id)
    return Watched(
        stream_of(identity),
        identity,
        lambda conn: context.history.get(conn, identity),
        lambda backup: backup["state"] in ENDED,
    )


def _shown(context: BackupContext, backup: dict[str, Any]) -> dict[str, Any]:
    return backup | context.progress.of(backup["backup_id"])


def _download(context: BackupContext, backup: dict[str, Any]) -> Response:
    if backup["state"] != "created":
        raise ConflictError(f"the backup {backup['backup_id']} is {backup['state']}")
    backup_id = backup["backup_id"]
    name = object_name(backup_id)
    context.objects.stat(name)

    def chunks(start: int, end: int) -> Iterator[bytes]:
        return download(context, backup_id, (start, end), begin_download(context, backup_id))

    return send_object(StoredObject(name, backup["size_bytes"], backup["sha256"]), chunks)
