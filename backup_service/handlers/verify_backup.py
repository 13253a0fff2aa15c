"""Verify a stored object and its receipt without the key: size, SHA-256, the form of its header."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from backup_service import events as ev
from backup_service.context import BackupContext, object_name, receipt_name
from serving.requester import Requester
from shared.archive.age.header import read_header
from shared.archive.limits import DEFAULT_LIMITS
from shared.archive.receipt import read_receipt
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import (
    ArchiveAltered,
    ArchiveDamaged,
    ArchiveTruncated,
    ConflictError,
    Interrupted,
    ReceiptInvalid,
    SecrynError,
    UnavailableError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

READ_BYTES = 1 << 20
COMPARED = CrashPoint("backup.verify.compared")
RECORDED = CrashPoint("backup.verify.committed")

# Called with the size of each piece that was read.
OnRead = Callable[[int], None]


def _as_fast_as_it_goes(_count: int) -> None:
    return None


def verify_backup(
    context: BackupContext,
    backup_id: str,
    requester: Requester,
    on_read: OnRead = _as_fast_as_it_goes,
) -> dict[str, Any]:
    """Read the object back and compare it with the history; the outcome is an event.

    What is not as it was is told by an event of its own, too. Raises BackupNotFound, ConflictError
    for a backup that has no object, UnavailableError while the storage cannot be read: nothing is
    known then.
    """
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        backup = context.history.load(conn, backup_id)
    _check_stored(backup_id, backup.state)
    outcome = compare_object(context, backup_id, backup.facts, on_read)
    outcome["receipt"] = compare_receipt(context, backup_id, backup.facts)
    COMPARED.reach()
    meta = EventMeta(requester.name, requester.correlation_id)
    events = [NewEvent(ev.VERIFIED, {"backup_id": backup_id, "outcome": outcome}, BACKUP_EVENTS)]
    whole = outcome["intact"] and outcome["receipt"]["intact"]
    if not whole:
        events.append(NewEvent(ev.DAMAGED, {"backup_id": backup_id} | outcome, BACKUP_EVENTS))
    with postgres_faults("recording the verification"), context.pool.connection() as conn:
        # The append lock first: a key viewed meanwhile must not make this fail.
        context.store.lock_appends(conn)
        present = context.history.load(conn, backup_id)
        # Purged while it was read, it is not damaged.
        _check_stored(backup_id, present.state)
        context.history.append(conn, backup_id, present.version, events, meta)
        entry = AuditEntry(
            "backup.verify", "success" if whole else "failure", requester.name,
            "backup", backup_id, requester.source,
            code=outcome["code"] or outcome["receipt"]["code"] or "",
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
    RECORDED.reach()
    if not whole:
        log.error("backup.damaged", backup_id=backup_id, code=outcome["code"],
                  receipt_code=outcome["receipt"]["code"])  # fmt: skip
    return {"backup_id": backup_id} | outcome


def _check_stored(backup_id: str, state: str) -> None:
    if state != "created":
        raise ConflictError(f"the backup {backup_id} is {state}: it has no object")


def compare_object(
    context: BackupContext,
    backup_id: str,
    facts: Mapping[str, Any],
    on_read: OnRead = _as_fast_as_it_goes,
) -> dict[str, Any]:
    """Read a stored object to its end; tell whether it is the one that ``facts`` describe.

    Raises UnavailableError.
    """
    digest, size, head = hashlib.sha256(), 0, b""
    try:
        with context.objects.open(object_name(backup_id)) as source:
            while data := source.read(READ_BYTES):
                head = head or data[: DEFAULT_LIMITS.header_bytes]
                digest.update(data)
                size += len(data)
                on_read(len(data))
        read_header(io.BytesIO(head), DEFAULT_LIMITS.header_bytes, DEFAULT_LIMITS.header_stanzas)
        if (size, digest.hexdigest()) != (facts["size_bytes"], facts["sha256"]):
            kind = ArchiveTruncated if size < facts["size_bytes"] else ArchiveAltered
            raise kind(f"the object has {size} bytes, sha256 {digest.hexdigest()}")
    except (UnavailableError, Interrupted):
        raise
    except SecrynError as error:
        return _bad(error)
    except OSError as error:
        # The medium gives back less than was written to it.
        return _bad(ArchiveDamaged(f"the object cannot be read: {error.strerror}"))
    return _good()


def compare_receipt(
    context: BackupContext, backup_id: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Tell whether the signed receipt beside the object is there and says what the history does.

    Raises UnavailableError.
    """
    try:
        # The signer of the backup is trusted: by this place, or by whoever adopted it.
        receipt = read_receipt(
            context.objects,
            receipt_name(backup_id),
            backup_id,
            context.trusted_signers,
            facts["signer"],
        )
        differing = [
            name
            for name in ("sha256", "size_bytes", "offset", "epoch", "digest")
            if receipt.facts[name] != facts[name]
        ]
        if differing:
            raise ReceiptInvalid(f"the receipt says something else of {', '.join(differing)}")
    except UnavailableError:
        raise
    except SecrynError as error:
        return _bad(error)
    except OSError as error:
        return _bad(ReceiptInvalid(f"the receipt cannot be read: {error.strerror}"))
    return _good()


def _good() -> dict[str, Any]:
    return {"intact": True, "code": None, "message": None}


def _bad(error: SecrynError) -> dict[str, Any]:
    return {"intact": False, "code": error.code, "message": error.message}
