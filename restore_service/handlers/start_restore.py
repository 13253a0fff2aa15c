"""The start of a restore that was approved: the key comes again, and every check with it."""

from __future__ import annotations

from typing import Any

from restore_service import events as ev
from restore_service.approval import is_over, is_repeated
from restore_service.checks import check_source, check_target
from restore_service.commands import ApprovedRestore, StartRestore
from restore_service.context import AcceptedRestore, RestoreContext
from restore_service.events import Restore
from restore_service.handlers.expire_waiting import expired
from restore_service.handlers.request_restore import check_asked_window, fingerprint_of
from restore_service.requests import STORED, check_none_runs
from serving.requester import Requester
from shared.archive.keyfile import KeyFile
from shared.audit import AuditEntry
from shared.errors import (
    AnotherKey,
    ApprovalMissing,
    ArchiveAltered,
    NothingToApprove,
    OutsideWindow,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


def start_restore(
    context: RestoreContext, command: StartRestore, requester: Requester
) -> dict[str, Any]:
    """Have an approved restore run here, with the key given again; return it as it stands.

    A repeated command changes nothing. Raises AccessError, RestoreNotFound, ApprovalMissing,
    ApprovalExpired, NothingToApprove, AnotherKey, and what a request for a restore raises.
    """
    requester.require("restore")
    restore_id = str(command.restore_id)
    with context.transaction("looking for the restore") as conn:
        restore = context.history.load(conn, restore_id)
        events = context.store.read_stream(conn, ev.stream_of(restore_id))
        if is_repeated(events, ev.START_REQUESTED, command.command_id):
            return context.history.get(conn, restore_id)
    _check_approved(restore)
    asked = ApprovedRestore.model_validate(
        restore.facts["asked"] | {"sealed_key": command.sealed_key}
    )
    key = _check_again(context, restore, asked)
    return _store(context, command, AcceptedRestore(asked, key), requester)


def _check_approved(restore: Restore) -> None:
    if restore.state == ev.AWAITING_APPROVAL:
        raise ApprovalMissing(f"the restore {restore.restore_id} was not approved")
    if restore.state == "expired":
        raise expired(restore)
    if restore.state != "approved":
        raise NothingToApprove(f"the restore {restore.restore_id} is {restore.state}")
    if is_over(restore.facts["expires_at"]):
        raise expired(restore)


def _check_again(context: RestoreContext, restore: Restore, asked: ApprovedRestore) -> KeyFile:
    """Check everything as it is now, and that the key is the one that was approved."""
    check_target(context, asked)
    try:
        check_asked_window(context, asked)
    except OutsideWindow as error:
        hint = "Wait for the window: a reason to begin outside of it is asked for and approved too."
        raise OutsideWindow(error.message, hint=hint) from None
    upload_sha256 = check_source(context, asked)
    if upload_sha256 != restore.facts["upload_sha256"]:
        raise ArchiveAltered("the upload is not the one that the restore was asked for with")
    key = context.recipients.unseal(asked, upload_sha256)
    if fingerprint_of(key) != restore.facts["key_fingerprint"]:
        raise AnotherKey(
            f"the restore was asked for with the key {restore.facts['key_fingerprint']}"
        )
    return key


def _store(
    context: RestoreContext,
    command: StartRestore,
    accepted: AcceptedRestore,
    requester: Requester,
) -> dict[str, Any]:
    restore_id, command_id = str(command.restore_id), str(command.command_id)
    data = {
        "restore_id": restore_id,
        "command_id": command_id,
        "started_by": requester.name,
        "receipt_sha256": command.receipt_sha256,
        "runner": context.runner,
        "expires_at": None,
    }
    meta = EventMeta(requester.name, requester.correlation_id, command_id)
    with context.transaction("storing the start") as conn:
        context.store.lock_appends(conn)
        restore = context.history.load(conn, restore_id)
        events = context.store.read_stream(conn, ev.stream_of(restore_id))
        if is_repeated(events, ev.START_REQUESTED, command_id):
            return context.history.get(conn, restore_id)
        _check_approved(restore)
        check_none_runs(context, conn, restore_id)
        started = NewEvent(ev.START_REQUESTED, data, RESTORE_EVENTS)
        context.history.append(conn, restore_id, restore.version, [started], meta)
        entry = AuditEntry(
            "restore.start", "success", requester.name, "restore", restore_id, requester.source,
            details=restore.names,
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
        # In memory before it can be seen as requested: the worker finds the key.
        context.accepted[restore_id] = accepted
        shown = context.history.get(conn, restore_id)
    STORED.reach()
    return shown
