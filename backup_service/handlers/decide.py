"""What two decisions about the store's log have in common: alone, once, and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from backup_service import events as ev
from backup_service.commands import AdoptLog, SkipEvent
from backup_service.context import BackupContext
from serving.repeated import check_same
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.errors import Interrupted
from shared.eventstore import EventMeta, NewEvent
from shared.guard import exclusive_guard, no_restore
from shared.messages.topics import BACKUP_EVENTS

# A recovery or a snapshot's last moments are waited for, a whole restore or backup is not.
WAIT_S: Final = 10.0


@dataclass(frozen=True)
class Decision:
    """What was decided: the type of its event, the action in the audit trail, the facts of both."""

    kind: str
    action: str
    facts: dict[str, Any]


@contextmanager
def holding_all(context: BackupContext) -> Iterator[None]:
    """Keep restores and backups off. Raises RestoreInProgress, BackupInProgress, Interrupted."""

    def look() -> None:
        if context.stop.is_set():
            raise Interrupted("the service stopped; nothing was changed")

    dsn = context.settings.postgres.dsn
    # In the order in which a restore takes them.
    with no_restore(dsn, WAIT_S, look), exclusive_guard(dsn, WAIT_S, look):
        yield


def decided(
    context: BackupContext, command_id: UUID, kind: str, asked: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the same command decided before, if it did. Raises CommandReused."""
    with postgres_faults("looking for the command"), context.pool.connection() as conn:
        last = context.store.last(conn, ev.log_stream_of(command_id))
    if last is None:
        return None
    check_same(command_id, last, kind, asked)
    return last.data


def record_decision(
    context: BackupContext,
    conn: Connection,
    command: AdoptLog | SkipEvent,
    requester: Requester,
    decision: Decision,
) -> None:
    """Append the event and the audit entry; in the transaction that changes the row.

    Raises ConcurrencyConflict when the same command decided in between.
    """
    meta = EventMeta(requester.name, requester.correlation_id, str(command.command_id))
    event = NewEvent(decision.kind, decision.facts, BACKUP_EVENTS)
    context.store.append(conn, ev.log_stream_of(command.command_id), 0, [event], meta)
    entry = AuditEntry(
        decision.action, "success", requester.name, "instance", str(command.instance_id),
        requester.source, message=command.reason, log_offset=decision.facts["position"],
        details=decision.facts,
    )  # fmt: skip
    context.audit.record(conn, entry, requester.correlation_id)
