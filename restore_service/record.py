"""What the signed receipt beside a stored backup says: how large it is, and that it was proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import structlog

from restore_service.checks import CheckedArchive
from restore_service.commands import ArchiveTask
from restore_service.context import RestoreContext
from restore_service.rollforward import RECEIPT_SUFFIX
from shared.archive.receipt import read_receipt
from shared.errors import ObjectNotFound, ReceiptInvalid, SignerUntrusted, UnavailableError

_SAME: Final = ("backup_id", "sha256", "digest", "signer")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Record:
    """A receipt that is trusted: whoever signed it had read the object back, and compared it.

    ``of_ours``: its signer is one of those that this place trusts, and not one whom a caller named.
    """

    facts: Mapping[str, Any]
    of_ours: bool

    @classmethod
    def of(cls, context: RestoreContext, command: ArchiveTask) -> Self | None:
        """Read the receipt of the backup that the command names; None where none says anything.

        An uploaded file has no receipt beside it, and a receipt that nobody trusts says nothing.
        """
        if command.backup_id is None:
            return None
        backup_id, signers = str(command.backup_id), context.trusted_signers
        name = f"{backup_id}{RECEIPT_SUFFIX}"
        try:
            found = read_receipt(context.backups, name, backup_id, signers, command.trust_signer)
        except (ObjectNotFound, ReceiptInvalid, SignerUntrusted, UnavailableError) as error:
            log.info("restore.without_receipt", backup_id=backup_id, code=error.code)
            return None
        return cls(found.facts, of_ours=found.trusted_by == "signer")

    @property
    def copy_bytes(self) -> int | None:
        """Return how much COPY data the archive holds; older receipts do not say."""
        copy_bytes = self.facts.get("copy_bytes")
        return copy_bytes if isinstance(copy_bytes, int) else None

    def proves(self, checked: CheckedArchive) -> bool:
        """Tell whether the rows of these very bytes were compared with their manifest before.

        Whoever is trusted by a caller alone is not taken at their word.
        """
        same = all(self.facts[name] == checked.facts[name] for name in _SAME)
        return self.of_ours and same
