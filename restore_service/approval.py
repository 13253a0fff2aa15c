"""Approval by a second person: who is another person, and the policy of the place.

The policy is events in a stream of its own. It belongs to the place: no archive holds it and no
restore changes it. Switched on, a restore that is asked for waits until another person approves
it. An undo waits for nobody: it puts back what was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from restore_service import events as ev
from restore_service.commands import RestoreInstance
from restore_service.context import RestoreContext
from restore_service.requests import Terms
from serving.access.bootstrap import BOOTSTRAP
from serving.access.passwords import has_password
from serving.access.people import USER_PREFIX, people_who_may
from serving.access.tokens import person_behind
from serving.caller import OPERATOR
from serving.requester import ISSUER_PREFIX, Requester
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import AccessError, OwnRequest, TooFewApprovers
from shared.eventstore import NewEvent, StoredEvent
from shared.messages import IssuerRegistry
from shared.messages.topics import RESTORE_EVENTS

log = structlog.get_logger(__name__)

STREAM: Final = "policy-approval"
APPROVE: Final = "approve"
# So many are named where it is said who may approve.
MOST_NAMED: Final = 100


def person_of(issuers: IssuerRegistry, name: str) -> str:
    """Return who stands behind the name of a requester.

    The operator, the issuer and the user of one name are one person, and so are issuers with one
    key: who is taken for one person too many cannot approve, who is taken for two could alone.
    """
    bare = name.removeprefix(ISSUER_PREFIX).removeprefix(USER_PREFIX)
    issuer = issuers.issuers.get(name.removeprefix(ISSUER_PREFIX)) or issuers.issuers.get(bare)
    return bare if issuer is None else issuer.public_key.fingerprint


def approvers(context: RestoreContext, conn: Connection, besides: str | None = None) -> list[str]:
    """Return the people who may approve, a name each; ``besides`` is the one who may not.

    They are the operator, the registered issuers that may, and the users of the instance who may
    as it is now and can sign in.
    """
    issuers = context.issuers
    known = sorted(i.id for i in issuers.issuers.values() if APPROVE in i.permissions)
    found: dict[str, str] = {}
    for name in (OPERATOR, *known, *_users(context, conn)):
        found.setdefault(person_of(issuers, name), name)
    if besides is not None:
        found.pop(person_of(issuers, person_behind(conn, besides)), None)
    return list(found.values())[:MOST_NAMED]


def _users(context: RestoreContext, conn: Connection) -> list[str]:
    # A provider lets in whoever it names, with a password here or without one.
    provided = context.settings.access.oidc is not None
    people = people_who_may(conn, APPROVE)
    return [person.name for person in people if provided or has_password(person)]


def check_another(
    context: RestoreContext, conn: Connection, requester: Requester, asked_by: str
) -> None:
    """Raise OwnRequest unless ``requester`` is another person than the one who asked.

    Who asks with an API token is who made that token.
    """
    names = [person_behind(conn, name) for name in (requester.name, asked_by)]
    if len({person_of(context.issuers, name) for name in names}) == 1:
        raise OwnRequest(f"{asked_by} asked for it, and cannot approve it")


def expires_at(context: RestoreContext) -> str:
    """Return until when what begins to wait now may wait."""
    ttl = timedelta(seconds=context.settings.restore.approval_ttl_s)
    return (datetime.now(UTC) + ttl).isoformat()


def is_over(until: str) -> bool:
    """Tell whether the time that ``expires_at`` gave is over."""
    return datetime.now(UTC) >= datetime.fromisoformat(until)


@dataclass
class Policy:
    """The policy as its events tell it; ``pending`` is a change that waits for approval."""

    version: int = 0
    required: bool = False
    changed: dict[str, Any] = field(default_factory=dict)
    pending: dict[str, Any] | None = None

    @property
    def waiting(self) -> dict[str, Any] | None:
        """Return the change that waits, unless its time is over."""
        if self.pending is None or is_over(self.pending["expires_at"]):
            return None
        return self.pending

    def as_json(self, people: list[str]) -> dict[str, Any]:
        """Return what the interfaces show; ``people`` may approve."""
        names = ("changed_by", "approved_by", "changed_at", "reason")
        return {"required": self.required} | {name: self.changed.get(name) for name in names} | {
            "pending": self.waiting, "approvers": people,
        }  # fmt: skip


def fold_policy(events: Sequence[StoredEvent]) -> Policy:
    """Return the policy from its stream."""
    policy = Policy()
    for event in events:
        policy.version = event.version
        at = event.occurred_at.isoformat()
        if event.type == ev.POLICY_CHANGE_REQUESTED:
            policy.pending = event.data | {"requested_at": at}
        else:
            policy.required = event.data["required"]
            policy.changed = event.data | {"changed_at": at}
            policy.pending = None
    return policy


def read_policy(context: RestoreContext, conn: Connection) -> Policy:
    """Return the policy that holds."""
    return fold_policy(context.store.read_stream(conn, STREAM))


def is_repeated(events: Sequence[StoredEvent], kind: str, command_id: object) -> bool:
    """Tell whether a command was carried out before: the same message may come again."""
    return any(e.type == kind and e.data.get("command_id") == str(command_id) for e in events)


def check_glass(command: RestoreInstance, requester: Requester) -> None:
    """Raise AccessError where somebody else than the local operator breaks the glass."""
    if command.break_glass is not None and requester.name != OPERATOR:
        raise AccessError("only the local operator may do without the approval, and not over Kafka")


def terms_of(
    context: RestoreContext,
    conn: Connection,
    command: RestoreInstance,
    requester: Requester,
    upload_sha256: str | None,
) -> Terms:
    """Return on what terms the restore is taken now. Raises TooFewApprovers.

    Under the append lock: the policy does not change until the request is stored.
    """
    if not read_policy(context, conn).required or requester.name == BOOTSTRAP:
        return Terms()
    if command.break_glass is not None:
        return _broken(context, command, command.break_glass, requester)
    others = approvers(context, conn, besides=requester.name)
    if not others:
        raise TooFewApprovers(f"nobody but {requester.name} may approve a restore")
    told = {"expires_at": expires_at(context), "approvers": others}
    # All but the key, and what is the requester's own.
    asked = command.model_dump(
        mode="json", exclude={"sealed_key", "receipt_sha256"}, exclude_none=True
    )
    data = told | {
        "asked": asked,
        "upload_sha256": upload_sha256,
        "requested_by": requester.name,
        "runner": None,
    }
    return Terms(waits=True, data=data, details=told)


def _broken(
    context: RestoreContext, command: RestoreInstance, reason: str, requester: Requester
) -> Terms:
    restore_id = str(command.restore_id)
    broken = {"by": requester.name, "reason": reason}
    event = NewEvent(
        ev.GLASS_BROKEN, {"restore_id": restore_id, "glass_broken": broken}, RESTORE_EVENTS
    )
    entry = AuditEntry(
        "restore.glass_broken", "success", requester.name, "restore", restore_id,
        requester.source, message=reason,
    )  # fmt: skip

    def tell() -> None:
        context.glass_broken.inc()
        log.error("restore.glass_broken", restore_id=restore_id, by=requester.name, reason=reason)

    return Terms(events=(event,), entries=(entry,), tell=tell)
