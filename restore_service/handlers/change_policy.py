"""The policy of approval: on, if two people may approve; off, when another person approves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restore_service import events as ev
from restore_service.approval import (
    STREAM,
    Policy,
    approvers,
    check_another,
    expires_at,
    fold_policy,
    is_over,
    is_repeated,
    read_policy,
)
from restore_service.commands import Approve, ChangeApproval
from restore_service.context import RestoreContext
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import (
    ApprovalExpired,
    ConflictError,
    NothingToApprove,
    PolicyChangeNotFound,
    TooFewApprovers,
)
from shared.eventstore import EventMeta, NewEvent, StoredEvent
from shared.messages.topics import RESTORE_EVENTS


@dataclass(frozen=True)
class _Change:
    """A change of the policy in the making, under the append lock."""

    context: RestoreContext
    conn: Connection
    policy: Policy
    requester: Requester

    def append(self, kind: str, data: dict[str, Any], action: str) -> Policy:
        """Append to the policy's stream and the audit trail; return what holds now."""
        context, conn, requester = self.context, self.conn, self.requester
        meta = EventMeta(requester.name, requester.correlation_id, data["command_id"])
        event = NewEvent(kind, data, RESTORE_EVENTS)
        context.store.append(conn, STREAM, self.policy.version, [event], meta)
        names = ("requested_by", "changed_by", "approved_by")
        entry = AuditEntry(
            action, "success", requester.name, "policy", "approval", requester.source,
            message=data["reason"], details={name: data[name] for name in names if name in data},
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
        return read_policy(context, conn)


def _shown(context: RestoreContext, conn: Connection, policy: Policy) -> dict[str, Any]:
    return policy.as_json(approvers(context, conn))


def show_policy(context: RestoreContext) -> dict[str, Any]:
    """Return the policy, the change that waits, and who may approve."""
    with context.transaction("reading the policy") as conn:
        return _shown(context, conn, read_policy(context, conn))


def change_policy(
    context: RestoreContext, command: ChangeApproval, requester: Requester
) -> dict[str, Any]:
    """Switch the policy on, or ask for it to be switched off; return it as it stands then.

    What is so already is left as it is; on again, it also withdraws a change that waits. Raises
    AccessError, TooFewApprovers, ConflictError while another change waits.
    """
    requester.require("configure")
    with context.transaction("changing the policy") as conn:
        context.store.lock_appends(conn)
        events = context.store.read_stream(conn, STREAM)
        policy = fold_policy(events)
        kind = ev.POLICY_CHANGED if command.required else ev.POLICY_CHANGE_REQUESTED
        if is_repeated(events, kind, command.command_id):
            return _shown(context, conn, policy)
        if command.required and (not policy.required or policy.waiting is not None):
            policy = _switch_on(_Change(context, conn, policy, requester), command)
        elif not command.required and policy.required:
            policy = _ask_off(_Change(context, conn, policy, requester), command)
        return _shown(context, conn, policy)


def _switch_on(change: _Change, command: ChangeApproval) -> Policy:
    people = approvers(change.context, change.conn)
    if len(people) < 2 and not change.policy.required:
        raise TooFewApprovers(f"only {', '.join(people)} may approve: it takes two people")
    data = {
        "required": True,
        "changed_by": change.requester.name,
        "approved_by": None,
        "command_id": str(command.command_id),
        "reason": command.reason,
    }
    return change.append(ev.POLICY_CHANGED, data, "approval.on")


def _ask_off(change: _Change, command: ChangeApproval) -> Policy:
    context, requester = change.context, change.requester
    if change.policy.waiting is not None:
        waits = change.policy.waiting["change_id"]
        raise ConflictError(
            f"the change {waits} waits already",
            hint=f"Another person approves it: `secryn restore approval approve {waits}`.",
        )
    if not approvers(context, change.conn, besides=requester.name):
        raise TooFewApprovers(f"nobody but {requester.name} may approve the change")
    data = {
        "change_id": str(command.command_id),
        "command_id": str(command.command_id),
        "required": False,
        "requested_by": requester.name,
        "reason": command.reason,
        "expires_at": expires_at(context),
    }
    return change.append(ev.POLICY_CHANGE_REQUESTED, data, "approval.off_requested")


def approve_change(
    context: RestoreContext, command: Approve, requester: Requester
) -> dict[str, Any]:
    """Switch the policy off, as another person asked for; return it as it stands then.

    Raises OwnRequest, ApprovalExpired, NothingToApprove, PolicyChangeNotFound.
    """
    change_id, command_id = str(command.change_id), str(command.command_id)
    with context.transaction("approving the change") as conn:
        context.store.lock_appends(conn)
        events = context.store.read_stream(conn, STREAM)
        policy = fold_policy(events)
        if is_repeated(events, ev.POLICY_CHANGED, command_id):
            return _shown(context, conn, policy)
        pending = _pending(events, policy, change_id)
        check_another(context, conn, requester, pending["requested_by"])
        data = {
            "required": pending["required"],
            "changed_by": pending["requested_by"],
            "approved_by": requester.name,
            "change_id": change_id,
            "command_id": command_id,
            "reason": pending["reason"],
        }
        change = _Change(context, conn, policy, requester)
        return _shown(context, conn, change.append(ev.POLICY_CHANGED, data, "approval.off"))


def _pending(events: Sequence[StoredEvent], policy: Policy, change_id: str) -> dict[str, Any]:
    pending = policy.pending
    if pending is None or pending["change_id"] != change_id:
        if any(event.data.get("change_id") == change_id for event in events):
            raise NothingToApprove(f"the change {change_id} does not wait any more")
        raise PolicyChangeNotFound(f"there is no change {change_id}")
    if is_over(pending["expires_at"]):
        raise ApprovalExpired(f"the change was not approved until {pending['expires_at']}")
    return pending
