"""The starter's receipt.

A restore replaces the users and ends every session: whoever started it holds a receipt, which can
watch that one restore and undo it, and nothing else. The client makes the secret and sends its
SHA-256 with the command; so the service has nothing to keep that opens anything.
"""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

from restore_service import events as ev
from restore_service.context import RestoreContext
from serving.caller import RECEIPT, Caller
from shared.database import Connection

PREFIX = "secryn-receipt."


class ReceiptHolders:
    """Knows the receipts of the restores that were ever started here."""

    def __init__(self, context: RestoreContext) -> None:
        self._context = context

    def authenticate(self, token: str) -> Caller | None:
        """Return who may watch and undo one restore, or None. Raises PostgresUnavailable."""
        if not token.startswith(PREFIX):
            return None
        named, _, secret = token.removeprefix(PREFIX).partition(".")
        try:
            restore_id = str(UUID(named))
        except ValueError:
            return None
        with self._context.transaction("looking for a receipt") as conn:
            known = self._digests(conn, restore_id)
        offered = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        if not any(hmac.compare_digest(offered, digest) for digest in known):
            return None
        return Caller(f"receipt:{restore_id}", RECEIPT, only=restore_id)

    def _digests(self, conn: Connection, restore_id: str) -> list[str]:
        # Of who asked for it, and of who started it after an approval.
        events = self._context.store.read_stream(conn, ev.stream_of(restore_id))
        found = [event.data.get("receipt_sha256") for event in events]
        return [str(digest) for digest in found if digest is not None]
