"""Adopt a backup: the history is lost, its object and its signed receipt are there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog

from backup_service import events as ev
from backup_service.commands import AdoptBackup
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.verify_backup import compare_object
from serving.requester import Requester
from shared.archive.receipt import Receipt, read_receipt, told_time
from shared.audit import AuditEntry
from shared.database import Connection, postgres_faults
from shared.errors import (
    ArchiveError,
    ConcurrencyConflict,
    ObjectNotFound,
    ReceiptInvalid,
    SecrynError,
    error_class,
)
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

_SUFFIX: Final = receipt_name("")


def adopt_backup(
    context: BackupContext, backup_id: str, command: AdoptBackup, requester: Requester
) -> dict[str, Any]:
    """Verify a backup's receipt and object, and take it into the history as created.

    Answers ``adopted``; ``known`` for one that the history has, in whatever state, and that is
    left as it is; ``refused`` with a code when the receipt or the object is not what it must be:
    then nothing was changed. Raises AccessError, UnavailableError.
    """
    requester.require("configure")
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        if context.history.exists(conn, backup_id):
            return _known(context, conn, backup_id)
    try:
        receipt = read_receipt(
            context.objects,
            receipt_name(backup_id),
            backup_id,
            context.trusted_signers,
            command.trust_signer,
        )
        _check_object(context, backup_id, receipt)
        answer = _append(context, backup_id, receipt, requester)
    except (ArchiveError, ObjectNotFound) as error:
        return _refused(context, backup_id, error, requester)
    log.info("backup.adopted", backup_id=backup_id, outcome=answer["outcome"])
    return answer


def _known(context: BackupContext, conn: Connection, backup_id: str) -> dict[str, Any]:
    state = context.history.get(conn, backup_id)["state"]
    return {"backup_id": backup_id, "outcome": "known", "state": state}


def _check_object(context: BackupContext, backup_id: str, receipt: Receipt) -> None:
    outcome = compare_object(context, backup_id, receipt.facts)
    if not outcome["intact"]:
        raise error_class(outcome["code"])(outcome["message"])


def _append(
    context: BackupContext, backup_id: str, receipt: Receipt, requester: Requester
) -> dict[str, Any]:
    meta = EventMeta(requester.name, requester.correlation_id)
    entry = AuditEntry(
        "backup.adopt", "success", requester.name, "backup", backup_id, requester.source,
        log_offset=receipt.facts["offset"],
        details={"signer": receipt.facts["signer"], "trusted_by": receipt.trusted_by},
    )  # fmt: skip
    try:
        with postgres_faults("adopting the backup"), context.pool.connection() as conn:
            adopted = NewEvent(
                ev.ADOPTED,
                {
                    "backup_id": backup_id,
                    "receipt": receipt.facts,
                    "location": f"{context.objects.location}/{object_name(backup_id)}",
                    "trusted_by": receipt.trusted_by,
                }
                | _key(context, conn, backup_id, receipt),
                BACKUP_EVENTS,
            )
            # Where it was adopted twice at once, the other one did it.
            with suppress(ConcurrencyConflict), conn.transaction():
                context.history.append(conn, backup_id, 0, [adopted], meta)
                context.audit.record(conn, entry, requester.correlation_id)
                return {"backup_id": backup_id, "outcome": "adopted", "state": "created"}
            return _known(context, conn, backup_id)
    except psycopg.DataError:
        raise ReceiptInvalid(
            f"the receipt of {backup_id} holds what PostgreSQL cannot store"
        ) from None


def _key(
    context: BackupContext, conn: Connection, backup_id: str, receipt: Receipt
) -> dict[str, Any]:
    """Return what is left of the key: with the history, a key that waited is lost."""
    if receipt.facts["key_fingerprint"] is None:
        return {"key_state": "own_recipient"}
    return context.keys.facts(conn, UUID(backup_id))


def _refused(
    context: BackupContext, backup_id: str, error: SecrynError, requester: Requester
) -> dict[str, Any]:
    entry = AuditEntry(
        "backup.adopt", "failure", requester.name, "backup", backup_id, requester.source,
        code=error.code, message=error.message,
    )  # fmt: skip
    context.record(entry, requester.correlation_id)
    log.warning("backup.not_adopted", backup_id=backup_id, code=error.code, reason=error.message)
    fault = {"code": error.code, "message": error.message, "hint": error.advice}
    return {"backup_id": backup_id, "outcome": "refused"} | fault


def list_receipts(context: BackupContext, after: str, limit: int) -> dict[str, Any]:
    """Return up to ``limit`` backups that have a receipt, by id behind ``after``, and where to go on.

    ``started_at`` is what the receipt says, unproven.
    """
    found: list[dict[str, Any]] = []
    for info in context.objects.list():
        backup_id = info.name.removesuffix(_SUFFIX)
        if not info.name.endswith(_SUFFIX) or not _is_id(backup_id) or backup_id <= after:
            continue
        if len(found) == limit:
            return {"receipts": _marked(context, found), "next_after": found[-1]["backup_id"]}
        with suppress(ObjectNotFound):
            started_at = told_time(context.objects, info.name)
            found.append({"backup_id": backup_id, "started_at": started_at})
    return {"receipts": _marked(context, found), "next_after": None}


def _marked(context: BackupContext, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        known = context.history.known(conn, [entry["backup_id"] for entry in found])
    return [entry | {"known": entry["backup_id"] in known} for entry in found]


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
