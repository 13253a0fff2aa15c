"""Adopt the log: a store whose own log is lost goes on with the one that is there now.

The state and its epoch stay as they are: whoever writes to the new log reads them, and what
carries this epoch counts. An open fence is one of the lost log, which never tells its end: it is
lowered, and its number stays spent. Nothing restores and nothing backs up meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import structlog

from backup_service import events as ev
from backup_service.commands import AdoptLog
from backup_service.context import BackupContext
from backup_service.handlers.decide import Decision, decided, holding_all, record_decision
from backup_service.projector.logcheck import check_log
from serving.requester import Requester
from shared.database import Connection, postgres_faults
from shared.errors import LogLost, LogNotEmpty, LogNotLost
from shared.eventstore import EventMeta, NewEvent
from shared.instance.events import LogAdopted
from shared.instance.position import (
    LogPosition,
    lock_position,
    read_position,
    update_position,
)
from shared.kafka import LogIdentity
from shared.messages.topics import INSTANCE_EVENTS
from shared.target import check_target

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Found:
    """The log that is there: which one, and from where to where it reaches."""

    identity: LogIdentity
    beginning: int
    end: int


def adopt_log(context: BackupContext, command: AdoptLog, requester: Requester) -> dict[str, Any]:
    """Move the store's position to the present log; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, RestoreInProgress, BackupInProgress, LogNotLost,
    LogNotEmpty when nobody said what becomes of what the log holds, ConcurrencyConflict,
    UnavailableError.
    """
    requester.require("restore")
    check_target(context.settings.place, command.instance_id, command.environment)
    before = decided(context, command.command_id, ev.LOG_ADOPTED, {"reason": command.reason})
    if before is not None:
        return before
    with holding_all(context):
        with postgres_faults("reading the position"), context.pool.connection() as conn:
            row = read_position(conn)
        found = _look(context, row)
        adopted = replace(_adopted(row, found, command), adoption_id=command.command_id)
        facts = _facts(command, row, found, adopted)
        with postgres_faults("adopting the log"), context.pool.connection() as conn:
            lock_position(conn, row)
            update_position(conn, adopted)
            decision = Decision(ev.LOG_ADOPTED, "instance.adopt_log", facts)
            record_decision(context, conn, command, requester, decision)
            _announce(context, conn, row, adopted, requester)
    log.warning("log.adopted", position=adopted.position, topic_id=adopted.topic_id)
    return facts


def _announce(
    context: BackupContext,
    conn: Connection,
    lost: LogPosition,
    adopted: LogPosition,
    requester: Requester,
) -> None:
    """Tell it on the new log: a state that is rebuilt from that log alone would lack its base."""
    assert adopted.adoption_id is not None
    event = LogAdopted(
        adoption_id=adopted.adoption_id,
        epoch=adopted.epoch,
        lost_cluster_id=lost.cluster_id,
        lost_topic_id=lost.topic_id,
        lost_position=lost.position,
    )
    stream = f"log-adoption-{adopted.adoption_id}"
    meta = EventMeta(requester.name, requester.correlation_id, str(adopted.adoption_id))
    announced = NewEvent(LogAdopted.TYPE, event.model_dump(mode="json"), INSTANCE_EVENTS)
    context.store.append(conn, stream, 0, [announced], meta)


def _look(context: BackupContext, row: LogPosition) -> _Found:
    """Return the log that is there. Raises LogNotLost when it is the store's own."""
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.admin() as admin, context.kafka.log_reader(topic) as reader:
        try:
            check_log(row, admin, reader)
        except LogLost:
            return _Found(
                admin.log_identity(topic),
                admin.beginning_offset(topic),
                admin.high_watermark(topic),
            )
    raise LogNotLost(f"the store is at offset {row.position} of this very log")


def _adopted(row: LogPosition, found: _Found, command: AdoptLog) -> LogPosition:
    """Return the row as it is to be. Raises LogNotEmpty."""
    own = (found.identity.cluster_id, found.identity.topic_id) == (row.cluster_id, row.topic_id)
    if own and command.start != "end" and found.end > found.beginning:
        raise LogNotEmpty(
            "the log is the store's own, cut off or altered: its beginning is folded already",
            hint="Restore a backup, or pass over what the log holds with `--from end`.",
        )
    if command.start is None and found.end > found.beginning:
        raise LogNotEmpty(
            f"the log holds {found.end - found.beginning} offsets already,"
            f" {found.beginning} to {found.end - 1}"
        )
    return replace(
        row.lowered(),
        cluster_id=found.identity.cluster_id,
        topic_id=found.identity.topic_id,
        position=found.end if command.start == "end" else found.beginning,
        last_offset=None,
        last_event_id=None,
    )


def _facts(
    command: AdoptLog, row: LogPosition, found: _Found, adopted: LogPosition
) -> dict[str, Any]:
    return {
        "instance_id": str(command.instance_id),
        "reason": command.reason,
        "from": command.start or "beginning",
        "cluster_id": adopted.cluster_id,
        "topic_id": adopted.topic_id,
        "position": adopted.position,
        "epoch": adopted.epoch,
        "to_apply": found.end - adopted.position,
        "passed_over": adopted.position - found.beginning,
        "lost_log": {
            "cluster_id": row.cluster_id,
            "topic_id": row.topic_id,
            "position": row.position,
        },
        "lowered_fence": None
        if not row.fenced
        else {"fence_no": row.fence_no, "restore_id": str(row.fence_restore_id)},
    }
