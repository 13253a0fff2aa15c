"""Publish the present recipient on the restore events, signed: what keys are sealed to."""

from __future__ import annotations

from restore_service import events as ev
from restore_service.context import SERVICE, RestoreContext
from restore_service.recipient.keys import PublishedRecipient
from shared.archive.age import recipient_fingerprint
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

_STREAM = "recipient"


def publish_recipient(context: RestoreContext) -> PublishedRecipient:
    """Return the present recipient, after an event has told of it. Raises PostgresUnavailable."""
    present = context.recipients.current()
    data = {"recipient": present.recipient, "expires_at": present.expires_at}
    with context.transaction("publishing the recipient") as conn:
        last = context.store.last(conn, _STREAM)
        if last is not None and last.data == data:
            return present
        context.store.lock_appends(conn)
        last = context.store.last(conn, _STREAM)
        if last is None or last.data != data:
            version = 0 if last is None else last.version
            meta = EventMeta(SERVICE, recipient_fingerprint(present.recipient))
            event = NewEvent(ev.RECIPIENT_PUBLISHED, data, RESTORE_EVENTS)
            context.store.append(conn, _STREAM, version, [event], meta)
    return present
