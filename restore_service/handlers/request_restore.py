"""A request for a restore: the key is opened, checked for whom it is, and kept in memory alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from restore_service import events as ev
from restore_service.checks import check_source, check_target
from restore_service.commands import RestoreInstance
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.requests import Request, known_request, store_request
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.audit import AuditEntry
from shared.errors import ConflictError, OutsideWindow
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


def request_restore(
    context: RestoreContext, command: RestoreInstance, requester: Requester
) -> dict[str, Any]:
    """Store the request and return the restore as it stands; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, SealedKeyRefused, KeyMalformed, BackupNotFound,
    RestoreInProgress.
    """
    requester.require("restore")
    restore_id = str(command.restore_id)
    if (known := known_request(context, restore_id)) is not None:
        return known
    check_target(context, command)
    _check_window(context, command)
    upload_sha256 = check_source(context, command)
    key = context.recipients.unseal(command, upload_sha256)
    fingerprint = recipient_fingerprint(key.identity.to_recipient().encode())
    data = {
        "kind": "restore",
        "restore_id": restore_id,
        "command_id": str(command.command_id),
        "target_instance_id": str(command.target_instance_id),
        "backup_id": None if command.backup_id is None else str(command.backup_id),
        "upload_id": None if command.upload_id is None else str(command.upload_id),
        "roll_forward": None if command.roll_forward is None else str(command.roll_forward),
        "reason": command.reason,
        "outside_window": command.outside_window,
        "running_backup": command.running_backup,
        "revoke_returning": command.revoke_returning,
        "key_fingerprint": fingerprint,
        "receipt_sha256": command.receipt_sha256,
        "runner": context.runner,
    }
    accepted = AcceptedRestore(command, key)
    details = {"trust_signer": command.trust_signer}
    request = Request("restore.run", restore_id, data, accepted, command.reason, details)
    return store_request(context, request, requester)


def _check_window(context: RestoreContext, command: RestoreInstance) -> None:
    settings = context.settings.restore
    if command.outside_window is None and not settings.in_window(datetime.now(UTC)):
        raise OutsideWindow(
            f"restores begin in the windows {', '.join(settings.windows)} ({settings.window_zone})"
        )


def cancel_restore(
    context: RestoreContext, restore_id: str, requester: Requester
) -> dict[str, Any]:
    """Ask for a restore to be given up; possible until the cut-over is decided.

    Raises RestoreNotFound, ConflictError when it has ended or was cut over.
    """
    requester.require("restore")
    meta = EventMeta(requester.name, requester.correlation_id)
    with context.transaction("cancelling") as conn:
        # The append lock first: a step of the restore itself must not make this fail.
        context.store.lock_appends(conn)
        restore = context.history.load(conn, restore_id)
        if restore.ended or restore.cut_over:
            raise ConflictError(f"the restore {restore_id} cannot be cancelled: {restore.state}")
        event = NewEvent(ev.CANCEL_REQUESTED, {"restore_id": restore_id}, RESTORE_EVENTS)
        context.history.append(conn, restore_id, restore.version, [event], meta)
        entry = AuditEntry(
            "restore.cancel", "success", requester.name, "restore", restore_id, requester.source
        )
        context.audit.record(conn, entry, requester.correlation_id)
        return context.history.get(conn, restore_id)
