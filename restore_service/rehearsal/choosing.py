"""Which backup a scheduled rehearsal is of: the newest one that the place's own identity opens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from restore_service.context import RestoreContext
from restore_service.rollforward import RECEIPT_SUFFIX
from shared.archive.receipt import read_receipt
from shared.errors import BackupNotFound, ObjectNotFound, ReceiptInvalid, SignerUntrusted

log = structlog.get_logger(__name__)

# So far the storage's clock may be from that of the services.
_CLOCKS_DIFFER_S: Final = 3600


def newest_for(context: RestoreContext, fingerprint: str) -> UUID:
    """Return the newest stored backup of this instance that the recipient ``fingerprint`` opens.

    Its signed receipt says so. Raises BackupNotFound when there is none, UnavailableError.
    """
    newest: tuple[datetime, str] | None = None
    for name, written_at in _receipts(context):
        # A receipt is written behind the proof it tells of: older ones cannot be of a newer backup.
        if newest is not None and written_at < newest[0].timestamp() - _CLOCKS_DIFFER_S:
            break
        proven_at = _proven_at(context, name, fingerprint)
        if proven_at is not None and (newest is None or (proven_at, name) > newest):
            newest = proven_at, name
    if newest is None:
        raise BackupNotFound(
            f"no stored backup of this instance is encrypted to {fingerprint}",
            hint="Name the recipient in the schedule: `secryn schedule set --recipient`.",
        )
    return UUID(newest[1])


def _receipts(context: RestoreContext) -> Iterator[tuple[str, float]]:
    """Yield backup ids and when their receipts were written, the last one first."""
    found = [
        (info.modified_at, info.name.removesuffix(RECEIPT_SUFFIX))
        for info in context.backups.list()
        if info.name.endswith(RECEIPT_SUFFIX)
    ]
    for modified_at, name in sorted(found, reverse=True):
        yield name, modified_at


def _proven_at(context: RestoreContext, name: str, fingerprint: str) -> datetime | None:
    """Return when the backup was proven; None where it is not one that is looked for."""
    try:
        receipt = read_receipt(
            context.backups, name + RECEIPT_SUFFIX, name, context.trusted_signers, None
        )
        context.backups.stat(f"{name}.age")
    except (ObjectNotFound, ReceiptInvalid, SignerUntrusted) as error:
        log.warning("rehearsal.backup_passed_over", backup_id=name, code=error.code)
        return None
    facts = receipt.facts
    if facts["instance_id"] != str(context.settings.place.instance_id):
        return None
    if fingerprint not in facts["recipient_fingerprints"]:
        return None
    return datetime.fromisoformat(facts["proven_at"])
