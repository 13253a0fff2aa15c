"""Skip the one event that cannot be decoded: the projector stopped at it, and goes on behind it.

That it cannot be decoded is seen here, on the log: nothing else is ever passed. The event stays
on the log; its hash is told, so that it can be found there and in what somebody wrote of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any, Final

import structlog

from backup_service import events as ev
from backup_service.commands import SkipEvent
from backup_service.context import BackupContext
from backup_service.handlers.decide import Decision, decided, record_decision
from backup_service.projector.logcheck import check_log, read_one
from serving.requester import Requester
from shared.database import postgres_faults
from shared.errors import MessageUnreadable, NothingToSkip, RestoreInProgress
from shared.instance.position import LogPosition, lock_position, read_position, update_position
from shared.instance.reading import read_record
from shared.kafka import Record
from shared.messages.topics import INSTANCE_EVENTS
from shared.target import check_target

log = structlog.get_logger(__name__)

SKIPPED: Final = "unreadable"


def skip_event(context: BackupContext, command: SkipEvent, requester: Requester) -> dict[str, Any]:
    """Move the store's position behind the event; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, RestoreInProgress, NothingToSkip for any offset but that of
    the undecodable event that the store stands at, LogLost, ConcurrencyConflict, UnavailableError.
    """
    requester.require("restore")
    check_target(context.settings.place, command.instance_id, command.environment)
    asked = {"offset": command.offset, "reason": command.reason}
    before = decided(context, command.command_id, ev.EVENT_SKIPPED, asked)
    if before is not None:
        return before
    with postgres_faults("reading the position"), context.pool.connection() as conn:
        row = read_position(conn)
    record, fault = _find(context, command, row)
    facts = _facts(command, row, record, fault)
    # The last folded event stays what it was: this one could not be compared again.
    skipped = dict(Counter(row.skipped) + Counter({SKIPPED: 1}))
    passed = replace(row, position=record.offset + 1, skipped=skipped)
    with postgres_faults("skipping the event"), context.pool.connection() as conn:
        # As in every step of the projector: a fence or a restore in between ends this one.
        lock_position(conn, row)
        update_position(conn, passed)
        decision = Decision(ev.EVENT_SKIPPED, "instance.skip_event", facts)
        record_decision(context, conn, command, requester, decision)
    log.warning("log.event_skipped", offset=record.offset)
    return facts


def _find(
    context: BackupContext, command: SkipEvent, row: LogPosition
) -> tuple[Record, MessageUnreadable]:
    """Return the event and why it cannot be decoded. Raises NothingToSkip, LogLost."""
    if row.fenced:
        raise RestoreInProgress(f"restore {row.fence_restore_id} has fenced the instance")
    if command.offset != row.position:
        raise NothingToSkip(f"the store is at offset {row.position}, not at {command.offset}")
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.admin() as admin, context.kafka.log_reader(topic) as reader:
        if check_log(row, admin, reader) <= command.offset:
            raise NothingToSkip(f"the log ends before offset {command.offset}")
        record = read_one(reader, command.offset)
    if record is None or record.offset != command.offset:
        raise NothingToSkip(f"no event stands at offset {command.offset}")
    try:
        read_record(record, row.epoch, context.issuers)
    except MessageUnreadable as error:
        return record, error
    raise NothingToSkip(f"the event at offset {command.offset} can be decoded")


def _facts(
    command: SkipEvent, row: LogPosition, record: Record, fault: MessageUnreadable
) -> dict[str, Any]:
    body = record.value or b""
    return {
        "instance_id": str(command.instance_id),
        "reason": command.reason,
        "cluster_id": row.cluster_id,
        "topic_id": row.topic_id,
        "offset": record.offset,
        "position": record.offset + 1,
        "epoch": row.epoch,
        "fault": fault.message,
        "logged_at_ms": record.timestamp_ms,
        "size_bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
