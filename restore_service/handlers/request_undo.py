"""A request to undo the last restore."""

from __future__ import annotations

from typing import Any

from restore_service.checks import check_target
from restore_service.commands import UndoRestore
from restore_service.context import AcceptedUndo, RestoreContext
from restore_service.handlers.undo import find_undoable
from restore_service.requests import Request, known_request, store_request
from serving.requester import Requester


def request_undo(
    context: RestoreContext, command: UndoRestore, requester: Requester
) -> dict[str, Any]:
    """Store the request and return the undo as it stands; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, NotUndoable, RestoreNotFound, RestoreInProgress,
    CommandReused.
    """
    if "undo_one" not in requester.permissions:
        requester.require("restore")
    undo_id = str(command.undo_id)
    asked = {
        "kind": "undo",
        "target_instance_id": str(command.target_instance_id),
        "reason": command.reason,
    }
    if command.restore_id is not None:
        asked["undo_of"] = str(command.restore_id)
    if (known := known_request(context, undo_id, command.command_id, asked)) is not None:
        return known
    check_target(context, command)
    with context.transaction("looking for the last restore") as conn:
        undone = find_undoable(context, conn, command.restore_id)
    data = {
        "restore_id": undo_id,
        "command_id": str(command.command_id),
        "undo_of": undone.restore_id,
        "backup_id": undone.facts["backup_id"],
        "upload_id": None,
        "key_fingerprint": None,
        "receipt_sha256": command.receipt_sha256,
        "runner": context.runner,
    }
    accepted = AcceptedUndo(command)
    details = {"undo_of": undone.restore_id}
    request = Request("restore.undo", undo_id, asked, data, accepted, command.reason, details)
    return store_request(context, request, requester)
