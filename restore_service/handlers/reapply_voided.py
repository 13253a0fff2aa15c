"""Append voided events again, by hand: the same body and actor, as new events of the present epoch."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from restore_service.checks import check_target
from restore_service.commands import ReapplyVoided
from restore_service.context import SERVICE, RestoreContext
from restore_service.fence import POLL_S, present_position
from restore_service.voided import (
    VoidedSpan,
    find_span,
    reapplied_id,
    reapplied_stream,
    voided_records,
)
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import Connection
from shared.errors import (
    FenceOpen,
    KeyringError,
    MessageUnreadable,
    NotVoided,
    RestoreInProgress,
    ValueTooLarge,
)
from shared.eventstore import EventMeta, NewEvent
from shared.eventstore.relay import to_message
from shared.instance.events import (
    ANNOUNCED_EVENTS,
    InstanceEvent,
    KeyringKeyAdded,
    KeyringRewrapped,
    decode,
)
from shared.instance.keyring import data_key_of
from shared.instance.reading import ACTOR, EPOCH
from shared.instance.writer import MAX_RECORD_BYTES
from shared.kafka import Record
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS

Json = dict[str, Any]


@dataclass(frozen=True)
class _Voided:
    """A voided event that can be appended again."""

    offset: int
    message: CloudEvent
    event: InstanceEvent


def reapply_voided(
    context: RestoreContext, restore_id: str, command: ReapplyVoided, requester: Requester
) -> Json:
    """Append the named events again, all or none; one that was appended before is left alone.

    Returns what became of each. Raises AccessError, TargetMismatch, RestoreNotFound, NotVoided,
    KeyringError when a value could not be opened, RestoreInProgress, FenceOpen, ValueTooLarge.
    """
    requester.require("restore")
    check_target(context, command)
    span = find_span(context, restore_id)
    chosen = _read(context, span, sorted(set(command.offsets)))
    stream = reapplied_stream(restore_id)
    with context.transaction("appending voided events again") as conn:
        # Behind the append lock no fence comes between: it goes the same way, and later.
        context.store.lock_appends(conn)
        epoch = _present_epoch(context, conn)
        before = {event.event_id for event in context.store.read_stream(conn, stream)}
        new = [each for each in chosen if reapplied_id(restore_id, each.offset) not in before]
        _check_keys(context, conn, new)
        meta = EventMeta(requester.name, requester.correlation_id)
        for each in new:
            _append(context, conn, restore_id, each, meta)
        entry = AuditEntry(
            "restore.reapply", "success", requester.name, "restore", restore_id, requester.source,
            message=command.reason,
            details={"offsets": [each.offset for each in new], "epoch": epoch},
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    deadline = time.monotonic() + context.settings.restore.fence_wait_s
    appended = {each.offset for each in new}
    outcomes = [
        _outcome(context, restore_id, each, deadline) | {"appended": each.offset in appended}
        for each in chosen
    ]
    return {"restore_id": restore_id, "epoch": epoch, "events": outcomes}


def _read(context: RestoreContext, span: VoidedSpan, offsets: list[int]) -> list[_Voided]:
    """Return the events at ``offsets``. Raises NotVoided unless each is one that was made void."""
    found: dict[int, _Voided] = {}
    with closing(voided_records(context, span, offsets[0] - 1)) as records:
        for record in records:
            if record.offset > offsets[-1]:
                break
            if record.offset in offsets:
                found[record.offset] = _decoded(record)
    if missing := [offset for offset in offsets if offset not in found]:
        named = ", ".join(map(str, missing))
        raise NotVoided(f"the restore {span.restore_id} made no event void at {named}")
    return [found[offset] for offset in offsets]


def _decoded(record: Record) -> _Voided:
    try:
        message = CloudEvent.from_kafka(record)
        event = decode(message.type, message.data)
    except MessageUnreadable as error:
        raise NotVoided(
            f"what stands at offset {record.offset} cannot be decoded: {error.message}"
        ) from error
    if isinstance(event, ANNOUNCED_EVENTS) or not message.extensions.get(ACTOR):
        raise NotVoided(f"what stands at offset {record.offset} is no event of a platform service")
    return _Voided(record.offset, message, event)


def _present_epoch(context: RestoreContext, conn: Connection) -> int:
    if running := context.history.open_ids(conn):
        raise RestoreInProgress(f"the restore {running[0]} is not over")
    position = present_position(conn)
    if position.fenced:
        raise FenceOpen(f"restore {position.fence_restore_id} is replacing the instance")
    return position.epoch


def _check_keys(context: RestoreContext, conn: Connection, events: list[_Voided]) -> None:
    """Raise KeyringError for a value whose data key the restore took away: it would never open."""
    known = {row[0] for row in conn.execute("SELECT id FROM instance.keyring")}
    for each in events:
        event = each.event
        if isinstance(event, KeyringKeyAdded | KeyringRewrapped):
            if event.root_key_id != context.root.id:
                raise KeyringError(
                    f"the event at offset {each.offset} is of another root key than this place's"
                )
            if isinstance(event, KeyringKeyAdded):
                known.add(event.id)
        for field in ("sealed", "sealed_private"):
            sealed = getattr(event, field, None)
            if sealed is not None and data_key_of(sealed) not in known:
                raise KeyringError(
                    f"the value at offset {each.offset} is sealed under a data key that is not in "
                    "the keyring",
                    hint="Name the voided event that added the key as well, or write the value anew.",
                )


def _append(
    context: RestoreContext, conn: Connection, restore_id: str, each: _Voided, meta: EventMeta
) -> None:
    message, stream = each.message, reapplied_stream(restore_id)
    extensions = {EPOCH: str(present_position(conn).epoch), ACTOR: message.extensions[ACTOR]}
    new_id = reapplied_id(restore_id, each.offset)
    event = NewEvent(
        message.type, json.loads(message.data), INSTANCE_EVENTS, extensions, event_id=new_id
    )
    caused = replace(meta, causation_id=str(message.id))
    version = context.store.version(conn, stream)
    try:
        (stored,) = context.store.append(conn, stream, version, [event], caused)
    except psycopg.DataError:
        raise NotVoided(
            f"what stands at offset {each.offset} holds what PostgreSQL cannot store"
        ) from None
    # One that the log does not take would hold up all that is published behind it.
    record = to_message(stored, context.signer, SERVICE).to_kafka(stream.encode("utf-8"))
    size = len(record.value) + sum(len(name) + len(raw) for name, raw in record.headers)
    if size > MAX_RECORD_BYTES:
        raise ValueTooLarge(f"the event at offset {each.offset} would have {size} bytes on the log")


def _outcome(context: RestoreContext, restore_id: str, each: _Voided, deadline: float) -> Json:
    """Return what the store made of the new event, waiting for it until ``deadline``."""
    new_id = reapplied_id(restore_id, each.offset)
    outcome: Json = {
        "offset": each.offset,
        "kind": each.message.type,
        "event_id": str(new_id),
        "new_offset": None,
        "state": "pending",
        "reason": None,
    }
    while True:
        with context.transaction("waiting for an event that was appended again") as conn:
            delivery = context.store.delivery(conn, new_id)
            if delivery is not None and present_position(conn).position > delivery.offset:
                rejected = conn.execute(
                    "SELECT code || ': ' || detail FROM instance.rejections WHERE event_id = %s",
                    (new_id,),
                ).fetchone()
                state = "applied" if rejected is None else "rejected"
                reason = None if rejected is None else rejected[0]
                return outcome | {"new_offset": delivery.offset, "state": state, "reason": reason}
        if time.monotonic() > deadline:
            return outcome
        time.sleep(POLL_S)
