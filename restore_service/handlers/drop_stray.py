"""States that are kept of restores which the history does not know: named, and dropped on a word.

Restores whose history was lost with the services' database rows, while the store lived on, keep
what they replaced for good: nothing says how old it is, whether somebody needs it, and from which
backup it came. Until a person decides, it takes its space and no backup is purged.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import structlog

from restore_service import events as ev
from restore_service.checks import check_target
from restore_service.commands import DropStray
from restore_service.context import RestoreContext
from restore_service.staging import become_owner, before_name, drop_if_possible, leftover_schemas
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import StrayNotDropped, StrayNotFound
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

log = structlog.get_logger(__name__)

_SHOWN: Final = ("restore_id", "kept_as", "size_bytes")
_BYTES: Final = """
SELECT coalesce(sum(c.relpages::bigint + coalesce(t.relpages, 0)), 0)::bigint
       * current_setting('block_size')::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid WHERE n.nspname = %s
"""


def find_strays(context: RestoreContext, conn: Connection) -> list[dict[str, Any]]:
    """Return the kept states whose restores the history does not know, by restore.

    ``size_bytes`` is about what each takes, as the catalogue has it: no lock is waited for.
    """
    found = []
    for schema in sorted(leftover_schemas(conn)[1]):
        restore_id = str(UUID(schema.rsplit("_", 1)[1]))
        if context.history.exists(conn, restore_id):
            continue
        row = conn.execute(_BYTES, (schema,)).fetchone()
        size_bytes = 0 if row is None else int(row[0])
        found.append({"restore_id": restore_id, "kept_as": schema, "size_bytes": size_bytes})
    return found


def count_strays(context: RestoreContext) -> int:
    """Return how many there are. Raises PostgresUnavailable."""
    with context.transaction("counting stray states") as conn:
        return len(find_strays(context, conn))


def drop_stray(
    context: RestoreContext, restore_id: str, command: DropStray, requester: Requester
) -> dict[str, Any]:
    """Drop the state that an unknown restore kept, and say so, both or neither.

    Asked for again it answers the same. Raises AccessError, TargetMismatch, StrayNotFound,
    StrayNotDropped while somebody reads it or something hangs on it.
    """
    requester.require("restore")
    check_target(context, command)
    schema, stream = before_name(restore_id), f"stray-{restore_id}"
    with context.transaction("dropping a stray state") as conn:
        # No restore becomes known meanwhile, and no other caller drops it.
        context.store.lock_appends(conn)
        known = context.store.read_stream(conn, stream)
        strays = {stray["restore_id"]: stray for stray in find_strays(context, conn)}
        if restore_id not in strays:
            if known:
                return {name: known[-1].data[name] for name in _SHOWN}
            raise StrayNotFound(f"no state is kept of an unknown restore {restore_id}")
        become_owner(conn)
        gone = drop_if_possible(conn, schema)
        conn.execute("RESET ROLE")
        if not gone:
            raise StrayNotDropped(f"the schema {schema} is being read, or something hangs on it")
        dropped = strays[restore_id]
        told = dropped | {"reason": command.reason, "dropped_by": requester.name}
        meta = EventMeta(requester.name, requester.correlation_id)
        event = NewEvent(ev.STRAY_DROPPED, told, RESTORE_EVENTS)
        context.store.append(conn, stream, len(known), [event], meta)
        entry = AuditEntry(
            "restore.drop_stray", "success", requester.name, "restore", restore_id,
            requester.source, message=command.reason, details={"kept_as": schema},
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    log.warning("restore.stray_dropped", restore_id=restore_id, kept_as=schema)
    return dropped
