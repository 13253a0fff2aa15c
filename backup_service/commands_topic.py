"""Commands over Kafka: the same command, the same handler; answers are events."""

from __future__ import annotations

from uuid import uuid4

from backup_service import events as ev
from backup_service.commands import CREATE_BACKUP, parse_create_message
from backup_service.context import BackupContext
from backup_service.handlers.request_backup import Requester, request_backup
from shared.audit import AuditEntry
from shared.database import postgres_faults
from shared.errors import MessageUnreadable, SecrynError, SignatureInvalid
from shared.eventstore import EventMeta, NewEvent, ReceivedCommand
from shared.messages import CloudEvent
from shared.messages.topics import BACKUP_COMMANDS, BACKUP_EVENTS

SOURCE = f"kafka:{BACKUP_COMMANDS}"


class BackupCommands:
    """What the consumer of the command topic calls."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def handle(self, received: ReceivedCommand) -> None:
        """Store a command that somebody registered has signed."""
        event, issuer = received.event, received.issuer
        if event.type != CREATE_BACKUP:
            raise MessageUnreadable(f"no command of type {event.type!r} is known here")
        requester = Requester(
            name=f"issuer:{issuer.id}",
            permissions=issuer.permissions,
            source=SOURCE,
            correlation_id=event.extensions.get("correlationid") or str(event.id),
            allowed_recipients=issuer.recipients,
        )
        request_backup(self._context, parse_create_message(event.data), requester)

    def refused(self, event: CloudEvent | None, error: SecrynError, offset: int) -> None:
        """Audit a refusal; answer the one who may be answered."""
        correlation_id = str(event.id) if event is not None else str(uuid4())
        issuer = event.extensions.get("issuer", "") if event is not None else ""
        actor = f"issuer:{issuer[:64]}" if issuer else "unknown"
        entry = AuditEntry(
            "backup.create", "failure", actor, "command", correlation_id, SOURCE,
            code=error.code, message=error.message, details={"command_offset": offset},
        )  # fmt: skip
        context = self._context
        with postgres_faults("recording a refusal"), context.pool.connection() as conn:
            context.audit.record(conn, entry, correlation_id)
            if event is None or isinstance(error, SignatureInvalid | MessageUnreadable):
                return
            answer = NewEvent(
                ev.REJECTED,
                {
                    "command_id": correlation_id,
                    "code": error.code,
                    "message": error.message,
                    "hint": error.advice,
                },
                BACKUP_EVENTS,
            )
            stream = f"rejection-{correlation_id}"
            version = context.store.version(conn, stream)
            meta = EventMeta(actor, correlation_id, correlation_id)
            context.store.append(conn, stream, version, [answer], meta)
