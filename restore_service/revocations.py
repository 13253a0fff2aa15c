"""The access that a restore brings back, revoked again right behind it, as ordinary events.

What comes back is found while both states are in the database and nothing is folded into either.
The events commit with the cut-over, behind Restored: the relay sends them in that order, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import sql

from restore_service.access import access_only_in
from restore_service.fence import Fence
from restore_service.run import Run
from restore_service.staging import INSTANCE, owner_connection
from shared.database import Connection, postgres_faults
from shared.errors import RevokeRefused
from shared.eventstore import NewEvent
from shared.instance import events as ie
from shared.instance.position import read_position
from shared.instance.reading import ACTOR, EPOCH
from shared.kafka import LogIdentity
from shared.messages.topics import INSTANCE_EVENTS

# They are appended while the store's tables are locked.
MOST_REVOKED: Final = 10_000
MOST_NAMED: Final = 100

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Revocations:
    """The events that revoke what comes back, and what the report says of them."""

    events: list[NewEvent]
    report: dict[str, Any]


def check_revocable(run: Run, facts: dict[str, Any]) -> None:
    """Raise RevokeRefused for an archive of another instance: nothing of it was removed here."""
    place = str(run.context.settings.place.instance_id)
    if facts["source_instance_id"] != place:
        raise RevokeRefused(
            f"the archive is of the instance {facts['source_instance_id']}: its users were never "
            "removed here, and all of them would be"
        )


def plan_revocations(run: Run, fence: Fence, log: LogIdentity, staging: str) -> Revocations:
    """Return what revokes the access that is in ``staging`` and no longer in the instance.

    Both stand still: the fence is up. Raises RevokeRefused when the instance's state at the fence
    is not known, when it has no users, and when it would be too many.
    """
    with (
        postgres_faults("finding the access that returns"),
        owner_connection(run.context.settings.postgres.dsn) as conn,
        conn.transaction(),
    ):
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        _check_present(conn, fence, log)
        found = access_only_in(conn, staging, INSTANCE, MOST_REVOKED + 1)
        revoked = {kind: entry["named"] for kind, entry in _without_implied(found).items()}
        total = sum(entry["count"] for entry in found.values())
        if total > MOST_REVOKED:
            raise RevokeRefused(f"{total:,} pieces of access return, at most {MOST_REVOKED:,} go")
        bodies = [*_events(conn, staging, revoked)]
    extensions = {EPOCH: str(fence.epoch), ACTOR: run.meta.actor}
    events = [
        NewEvent(body.TYPE, body.model_dump(mode="json"), INSTANCE_EVENTS, extensions)
        for body in bodies
    ]
    report = {
        kind: {"count": len(rows), "named": rows[:MOST_NAMED]} for kind, rows in revoked.items()
    }
    return Revocations(events, {"events": len(events)} | report)


def _check_present(conn: Connection, fence: Fence, log: LogIdentity) -> None:
    position = read_position(conn, INSTANCE)
    same_log = (position.cluster_id, position.topic_id) == (log.cluster_id, log.topic_id)
    if not same_log or position.position < fence.offset:
        raise RevokeRefused(
            f"the store stands at {position.position}, not at the fence at {fence.offset}: what "
            "was removed in between cannot be told",
            hint="Wait until the projector has caught up, or restore without --revoke-returning.",
        )
    row = conn.execute("SELECT EXISTS (SELECT FROM instance.users)").fetchone()
    if row is None or not row[0]:
        raise RevokeRefused("the instance has no users: all of the backup's would be removed")


def _without_implied(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out what goes with a user or a role: their removal takes it along."""
    users = {row["id"] for row in found["users"]["named"]}
    roles = {row["id"] for row in found["roles"]["named"]}

    def left(row: dict[str, Any]) -> bool:
        return row.get("user_id") not in users and row.get("role_id") not in roles

    return {
        kind: entry | {"named": [row for row in entry["named"] if left(row)]}
        for kind, entry in found.items()
    }


def _events(conn: Connection, staging: str, revoked: dict[str, Rows]) -> Iterator[ie.InstanceEvent]:
    for row in revoked["role_bindings"]:
        yield ie.RoleBindingRemoved(id=UUID(row["id"]))
    for row in revoked["role_permissions"]:
        yield ie.RolePermissionRevoked(id=UUID(row["role_id"]), permission=row["permission"])
    for row in revoked["roles"]:
        yield ie.RoleDeleted(id=UUID(row["id"]))
    for row in revoked["users"]:
        yield ie.UserDeleted(id=UUID(row["id"]))
    # Of a user that is disabled again all else stays what the backup has.
    query = sql.SQL("SELECT id, display_name, email FROM {} WHERE id = ANY(%s::uuid[])").format(
        sql.Identifier(staging, "users")
    )
    ids = [row["id"] for row in revoked["users_enabled"]]
    for user_id, display_name, email in conn.execute(query, (ids,)):
        yield ie.UserUpdated(id=user_id, display_name=display_name, email=email, enabled=False)
