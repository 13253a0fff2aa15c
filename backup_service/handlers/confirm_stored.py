"""I have stored it: what was repeatable of a viewing is forgotten before its time."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from backup_service.context import BackupContext
from serving.requester import Requester
from shared.audit import AuditEntry
from shared.database import postgres_faults
from shared.errors import UsageError


class KeyStored(BaseModel):
    """The key that this request was given is stored: nobody needs it again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request_id: UUID


def parse_stored(document: Any) -> KeyStored:
    """Read the request. Raises UsageError, naming the field."""
    try:
        return KeyStored.model_validate(document)
    except ValidationError as error:
        fields = ", ".join(str(fault["loc"][0]) for fault in error.errors() if fault["loc"])
        raise UsageError(f"the request is refused: {fields or 'not a JSON object'}") from None


def confirm_stored(
    context: BackupContext, backup_id: str, command: KeyStored, requester: Requester
) -> dict[str, Any]:
    """End the repeating of a viewing, by the request that viewed; ``forgotten`` tells if it was now.

    A second time, after the window, or by another request nothing is left to forget, which is what
    was asked for. Raises BackupNotFound, AccessError.
    """
    requester.require("view_key")
    with postgres_faults("forgetting the key"), context.pool.connection() as conn:
        # As whoever changes a key: its state and its entries are one.
        context.store.lock_appends(conn)
        context.history.load(conn, backup_id)
        forgotten = context.keys.forget(conn, UUID(backup_id), command.request_id)
        if forgotten:
            entry = AuditEntry(
                "key.stored", "success", requester.name, "backup", backup_id, requester.source
            )
            context.audit.record(conn, entry, requester.correlation_id)
    return {"backup_id": backup_id, "forgotten": forgotten}
