"""Commands over Kafka: the same command, the same handler; refusals are answered by an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

import psycopg

from serving.requester import ISSUER_PREFIX, Requester
from shared.audit import AuditEntry, AuditTrail, storable
from shared.database import Pool, postgres_faults
from shared.errors import MessageUnreadable, SecrynError, SignatureInvalid
from shared.eventstore import EventMeta, EventStore, NewEvent, ReceivedCommand
from shared.messages import CloudEvent

Handle = Callable[[bytes, Requester], object]


@dataclass(frozen=True)
class CommandTopic:
    """What the consumer of one command topic calls.

    ``handlers`` are by message type; ``rejected`` is the type of the answer to a command that
    was understood and refused, published on ``answers``. ``action`` names it in the audit trail.
    """

    topic: str
    answers: str
    rejected: str
    action: str
    handlers: Mapping[str, Handle]
    pool: Pool
    store: EventStore
    audit: AuditTrail

    def handle(self, received: ReceivedCommand) -> None:
        """Hand a command that somebody registered has signed to its handler."""
        event, issuer = received.event, received.issuer
        handler = self.handlers.get(event.type)
        if handler is None:
            raise MessageUnreadable(f"no command of type {event.type!r} is known here")
        requester = Requester(
            name=f"{ISSUER_PREFIX}{issuer.id}",
            permissions=issuer.permissions,
            source=f"kafka:{self.topic}",
            correlation_id=event.extensions.get("correlationid") or str(event.id),
            allowed_recipients=issuer.recipients,
        )
        try:
            handler(event.data, requester)
        except psycopg.DataError as error:
            # It would come again for ever, and with it nothing behind it.
            raise MessageUnreadable("the command holds what PostgreSQL cannot store") from error

    def refused(self, event: CloudEvent | None, error: SecrynError, offset: int) -> None:
        """Audit a refusal; answer the one who may be answered."""
        command_id = str(event.id) if event is not None else str(uuid4())
        issuer = event.extensions.get("issuer", "") if event is not None else ""
        actor = f"{ISSUER_PREFIX}{issuer[:64]}" if issuer else "unknown"
        entry = AuditEntry(
            self.action, "failure", actor, "command", command_id, f"kafka:{self.topic}",
            code=error.code, message=error.message, details={"command_offset": offset},
        )  # fmt: skip
        with postgres_faults("recording a refusal"), self.pool.connection() as conn:
            self.audit.record(conn, entry, command_id)
            if event is None or isinstance(error, SignatureInvalid | MessageUnreadable):
                return
            data = {
                "command_id": command_id,
                "code": error.code,
                "message": storable(error.message),
                "hint": error.advice,
            }
            stream = f"rejection-{command_id}"
            meta = EventMeta(actor, command_id, command_id)
            answer = NewEvent(self.rejected, data, self.answers)
            self.store.append(conn, stream, self.store.version(conn, stream), [answer], meta)
