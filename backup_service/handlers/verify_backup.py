"""Verify a stored object without its key: size, SHA-256, the age header's form."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any

from backup_service import events as ev
from backup_service.context import BackupContext, object_name
from serving.requester import Requester
from shared.archive.age.header import read_header
from shared.archive.limits import DEFAULT_LIMITS
from shared.audit import AuditEntry
from shared.database import postgres_faults
from shared.errors import ConflictError, SecrynError
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

READ_BYTES = 1 << 20


def verify_backup(context: BackupContext, backup_id: str, requester: Requester) -> dict[str, Any]:
    """Read the object back and compare it with the history; the outcome is an event.

    Raises BackupNotFound, ConflictError for a backup that has no object.
    """
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        backup = context.history.load(conn, backup_id)
    if backup.state != "created":
        raise ConflictError(f"the backup {backup_id} is {backup.state}: it has no object")
    outcome = compare_object(context, backup_id, backup.facts)
    meta = EventMeta(requester.name, requester.correlation_id)
    verified = NewEvent(ev.VERIFIED, {"backup_id": backup_id, "outcome": outcome}, BACKUP_EVENTS)
    with postgres_faults("recording the verification"), context.pool.connection() as conn:
        # The append lock first: a key viewed meanwhile must not make this fail.
        context.store.lock_appends(conn)
        now = context.history.load(conn, backup_id)
        if now.state != "created":
            # Purged while it was read: what was not found is no loss.
            raise ConflictError(f"the backup {backup_id} is {now.state}: it has no object")
        context.history.append(conn, backup_id, now.version, [verified], meta)
        entry = AuditEntry(
            "backup.verify", "success" if outcome["intact"] else "failure", requester.name,
            "backup", backup_id, requester.source, code=outcome["code"] or "",
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    return {"backup_id": backup_id} | outcome


def compare_object(
    context: BackupContext, backup_id: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Read a stored object to its end; tell whether it is the one that ``facts`` describe."""
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        with context.objects.open(object_name(backup_id)) as source:
            while data := source.read(READ_BYTES):
                head = head or data[: DEFAULT_LIMITS.header_bytes]
                digest.update(data)
                size += len(data)
        read_header(io.BytesIO(head), DEFAULT_LIMITS.header_bytes, DEFAULT_LIMITS.header_stanzas)
    except SecrynError as error:
        return {"intact": False, "code": error.code, "message": error.message}
    if (size, digest.hexdigest()) != (facts["size_bytes"], facts["sha256"]):
        return {
            "intact": False,
            "code": "archive.altered",
            "message": f"the object has {size} bytes, sha256 {digest.hexdigest()}",
        }
    return {"intact": True, "code": None, "message": None}
