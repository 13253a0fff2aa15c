"""A request for a restore: the key is opened, checked for whom it is, and kept in memory alone."""

from __future__ import annotations

from typing import Any

from restore_service import events as ev
from restore_service.approval import check_glass, terms_of
from restore_service.checks import check_source, check_target
from restore_service.commands import RestoreInstance
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.handlers.finish import end_event
from restore_service.requests import Request, Terms, known_request, store_request
from restore_service.timing import check_window
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.archive.keyfile import KeyFile
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import Cancelled, ConflictError
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


def request_restore(
    context: RestoreContext, command: RestoreInstance, requester: Requester
) -> dict[str, Any]:
    """Store the request and return the restore as it stands; a repeated command changes nothing.

    Where the policy asks for an approval it waits, and the key is forgotten.

    Raises AccessError, TargetMismatch, SealedKeyRefused, KeyMalformed, BackupNotFound,
    RestoreInProgress, OutsideWindow, TooFewApprovers, CommandReused.
    """
    requester.require("restore")
    check_glass(command, requester)
    restore_id = str(command.restore_id)
    asked = {
        "kind": "restore",
        "target_instance_id": str(command.target_instance_id),
        "backup_id": None if command.backup_id is None else str(command.backup_id),
        "upload_id": None if command.upload_id is None else str(command.upload_id),
        "roll_forward": None if command.roll_forward is None else str(command.roll_forward),
        "reason": command.reason,
        "outside_window": command.outside_window,
        "running_backup": command.running_backup,
        "revoke_returning": command.revoke_returning,
    }
    if (known := known_request(context, restore_id, command.command_id, asked)) is not None:
        return known
    check_target(context, command)
    upload_sha256 = check_source(context, command)
    key = context.recipients.unseal(command, upload_sha256)
    data = {
        "restore_id": restore_id,
        "command_id": str(command.command_id),
        "key_fingerprint": fingerprint_of(key),
        "receipt_sha256": command.receipt_sha256,
        "runner": context.runner,
    }
    accepted = AcceptedRestore(command, key)
    details = {"trust_signer": command.trust_signer}

    def terms(conn: Connection) -> Terms:
        found = terms_of(context, conn, command, requester, upload_sha256)
        if not found.waits:
            # One that waits begins later: its start asks.
            check_asked_window(context, command)
        return found

    request = Request(
        "restore.run", restore_id, asked, data, accepted, command.reason, details, terms
    )
    return store_request(context, request, requester)


def fingerprint_of(key: KeyFile) -> str:
    """Return the fingerprint of the recipient that belongs to a key."""
    return recipient_fingerprint(key.identity.to_recipient().encode())


def check_asked_window(context: RestoreContext, command: RestoreInstance) -> None:
    """Raise OutsideWindow where what is asked for now may not begin then without a reason."""
    settings = context.settings.restore
    check_window(settings, command.outside_window, settings.begins_at(context.clock.now()))


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
        events = [NewEvent(ev.CANCEL_REQUESTED, {"restore_id": restore_id}, RESTORE_EVENTS)]
        if restore.waiting:
            # Nobody runs it, so nobody would end it.
            events.append(end_event(ev.CANCELLED, restore_id, Cancelled("it was not begun")))
        context.history.append(conn, restore_id, restore.version, events, meta)
        entry = AuditEntry(
            "restore.cancel", "success", requester.name, "restore", restore_id, requester.source,
            details=restore.names,
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
        return context.history.get(conn, restore_id)
