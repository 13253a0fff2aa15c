"""What was written behind a fence that ended in Restored: void, and skipped by every consumer.

It stays on the log: it is counted for the report of the restore, read from there on demand, and
may be appended again by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid5

import structlog

from restore_service.context import RestoreContext
from restore_service.events import stream_of
from restore_service.undone import shown_actor
from shared.errors import (
    KafkaUnavailable,
    LogLost,
    MessageUnreadable,
    NotVoided,
    RestoreNotFound,
    SecrynError,
)
from shared.eventstore import StoredEvent
from shared.instance.events import Restored, RestoreStarted
from shared.instance.reading import read_announced
from shared.instance.subject import OTHERS, kind_of
from shared.kafka import LogReader, Record
from shared.messages.topics import INSTANCE_EVENTS

log = structlog.get_logger(__name__)

# In the report; all of them are on the log.
MOST_LISTED: Final = 1000
MOST_ACTORS: Final = 100
_MAX_ACTOR_CHARS: Final = 100
_MAX_ID_CHARS: Final = 36
_REAPPLIED: Final = UUID("8f1f2a6e-9d43-5a0b-8f5f-0f2f8b8d1c55")

Json = dict[str, Any]


@dataclass(frozen=True)
class VoidedSpan:
    """The offsets between a restore's fence at F and its Restored at R, neither among them."""

    restore_id: str
    fence_offset: int
    end: int
    started_id: UUID


def reapplied_stream(restore_id: str) -> str:
    """Return the stream of the events of a restore that were appended again."""
    return f"reapplied-{restore_id}"


def reapplied_id(restore_id: str, offset: int) -> UUID:
    """Return the id of the new event for the voided one: the same whenever it is asked for."""
    return uuid5(_REAPPLIED, f"{restore_id}:{offset}")


def find_span(context: RestoreContext, restore_id: str) -> VoidedSpan:
    """Return what a restore made void.

    Raises RestoreNotFound, NotVoided for one that replaced nothing, KafkaUnavailable while its end
    is not on the log yet.
    """
    with context.transaction("looking for the restore's place on the log") as conn:
        events = context.store.read_stream(conn, stream_of(restore_id))
        if not events:
            raise RestoreNotFound(f"there is no restore {restore_id}")
        started, restored = _of_type(events, RestoreStarted.TYPE), _of_type(events, Restored.TYPE)
        if started is None or restored is None:
            raise NotVoided(f"the restore {restore_id} replaced nothing: nothing is void")
        fence = context.store.delivery(conn, started.event_id)
        end = context.store.delivery(conn, restored.event_id)
    if fence is None or end is None:
        raise KafkaUnavailable(f"the end of restore {restore_id} is not on the log yet")
    return VoidedSpan(restore_id, fence.offset, end.offset, started.event_id)


def _of_type(events: list[StoredEvent], kind: str) -> StoredEvent | None:
    return next((event for event in events if event.type == kind), None)


def voided_records(
    context: RestoreContext, span: VoidedSpan, after: int | None = None
) -> Generator[Record, None, None]:
    """Yield every voided record behind offset ``after``; memory is that of one read.

    Raises LogLost when the log is not the one of the restore any more, KafkaUnavailable.
    """
    start = span.fence_offset + 1 if after is None else max(span.fence_offset, after) + 1
    with context.kafka.log_reader(context.kafka.topic(INSTANCE_EVENTS)) as reader:
        _check_log(reader, span)
        for batch in reader.between(start, span.end):
            for record in batch.records:
                announced = None
                with suppress(MessageUnreadable):
                    announced = read_announced(record, context.issuers)
                if announced is None:
                    yield record


def _check_log(reader: LogReader, span: VoidedSpan) -> None:
    wanted = str(span.started_id).encode("ascii")
    for batch in reader.between(span.fence_offset, span.fence_offset + 1, 1):
        if any(dict(record.headers).get("ce_id") == wanted for record in batch.records):
            return
    raise LogLost(f"at {span.fence_offset} is not the fence of restore {span.restore_id}")


def shown(record: Record) -> Json:
    """Return what is shown of a voided record: nothing of its body."""
    headers = dict(record.headers)
    epoch = headers.get("ce_epoch", b"")
    time = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    return {
        "offset": record.offset,
        "id": _text(headers.get("ce_id", b""))[:_MAX_ID_CHARS],
        "kind": kind_of(_text(headers.get("ce_type", b""))),
        "actor": _actor_of(record),
        "epoch": int(epoch) if epoch.isdigit() and len(epoch) <= 10 else None,
        "time": time.isoformat(timespec="milliseconds"),
    }


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _actor_of(record: Record) -> str:
    return shown_actor(dict(record.headers).get("ce_actor", b""))[:_MAX_ACTOR_CHARS]


def page_of_voided(context: RestoreContext, restore_id: str, after: int | None, limit: int) -> Json:
    """Return up to ``limit`` voided events behind offset ``after``, and where the next page begins.

    Raises as ``find_span`` and ``voided_records`` do.
    """
    span = find_span(context, restore_id)
    with closing(voided_records(context, span, after)) as records:
        events = [shown(record) for record in islice(records, limit)]
    with context.transaction("looking for what was appended again") as conn:
        stored = context.store.read_stream(conn, reapplied_stream(restore_id))
    again = {event.event_id for event in stored}
    for event in events:
        new_id = reapplied_id(restore_id, event["offset"])
        event["reapplied_as"] = str(new_id) if new_id in again else None
    return {
        "restore_id": restore_id,
        "fence_offset": span.fence_offset,
        "restored_offset": span.end,
        "events": events,
        "next_after": events[-1]["offset"] if len(events) == limit else None,
    }


def count_voided(context: RestoreContext, restore_id: str) -> Json | None:
    """Return the voided events counted, and the first listed; None when it cannot be told now."""
    try:
        return voided_of(context, restore_id)
    except SecrynError as error:
        log.warning("restore.voided_uncounted", restore_id=restore_id, code=error.code)
        return None


def voided_of(context: RestoreContext, restore_id: str) -> Json:
    """Return the voided events counted, and the first listed.

    Raises as ``find_span`` and ``voided_records`` do.
    """
    span = find_span(context, restore_id)
    kinds: Counter[str] = Counter()
    actors: Counter[str] = Counter()
    listed: list[Json] = []
    for record in voided_records(context, span):
        event = shown(record)
        kinds[event["kind"]] += 1
        known = event["actor"] in actors or len(actors) < MOST_ACTORS
        actors[event["actor"] if known else OTHERS] += 1
        if len(listed) < MOST_LISTED:
            listed.append(event)
    return {
        "total": kinds.total(),
        "by_kind": dict(kinds.most_common()),
        "by_actor": dict(actors.most_common()),
        "events": listed,
    }
