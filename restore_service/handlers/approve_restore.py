"""An approval: another person than the one who asked, in time, once."""

from __future__ import annotations

from typing import Any

from restore_service import events as ev
from restore_service.approval import APPROVE, check_another, expires_at, is_over, is_repeated
from restore_service.commands import Approve
from restore_service.context import RestoreContext
from restore_service.events import Restore
from restore_service.handlers.change_policy import approve_change
from restore_service.handlers.expire_waiting import expired
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.errors import NothingToApprove
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


def approve(context: RestoreContext, command: Approve, requester: Requester) -> dict[str, Any]:
    """Approve a restore or a change of the policy; return it as it stands then.

    Raises AccessError, OwnRequest, ApprovalExpired, NothingToApprove, RestoreNotFound,
    PolicyChangeNotFound.
    """
    requester.require(APPROVE)
    if command.change_id is not None:
        return approve_change(context, command, requester)
    return _approve_restore(context, command, requester)


def _approve_restore(
    context: RestoreContext, command: Approve, requester: Requester
) -> dict[str, Any]:
    restore_id, command_id = str(command.restore_id), str(command.command_id)
    with context.transaction("approving the restore") as conn:
        # Of two approvals at once the second one finds the first.
        context.store.lock_appends(conn)
        restore = context.history.load(conn, restore_id)
        events = context.store.read_stream(conn, ev.stream_of(restore_id))
        if is_repeated(events, ev.APPROVED, command_id):
            return context.history.get(conn, restore_id)
        _check_awaited(restore)
        check_another(context, conn, requester, restore.facts["requested_by"])
        names = {"requested_by": restore.facts["requested_by"], "approved_by": requester.name}
        data = {"restore_id": restore_id, "command_id": command_id} | names
        # From now on it waits for its start.
        approved = NewEvent(ev.APPROVED, data | {"expires_at": expires_at(context)}, RESTORE_EVENTS)
        meta = EventMeta(requester.name, requester.correlation_id, command_id)
        context.history.append(conn, restore_id, restore.version, [approved], meta)
        entry = AuditEntry(
            "restore.approve", "success", requester.name, "restore", restore_id,
            requester.source, details=names,
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
        return context.history.get(conn, restore_id)


def _check_awaited(restore: Restore) -> None:
    if restore.state == "expired":
        raise expired(restore)
    if restore.state != ev.AWAITING_APPROVAL:
        raise NothingToApprove(f"the restore {restore.restore_id} is {restore.state}")
    if is_over(restore.facts["expires_at"]):
        raise expired(restore)
