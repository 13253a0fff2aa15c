"""The starter's receipt, and the credential of a place that has nobody yet.

A restore replaces the users and ends every session: whoever started it holds a receipt, which can
watch that one restore and undo it, and nothing else. The client makes the secret and sends its
SHA-256 with the command; so the service has nothing to keep that opens anything.

The bootstrap credential restores into an instance without users. It is spent when a restore has
completed since it was made, or when there is a user; only the machine makes another.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from restore_service import events as ev
from restore_service.context import RestoreContext
from serving.caller import RECEIPT, Caller
from shared.database import Connection
from shared.errors import BootstrapSpent
from shared.secretfiles import read_secret_file

PREFIX = "secryn-receipt."
BOOTSTRAP = "bootstrap"
BOOTSTRAP_PERMISSIONS = frozenset({"read", "restore"})


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


class Bootstrap:
    """Knows the credential in a 0600 file of the place: a token, and the moment it was made."""

    def __init__(self, file: Path, context: RestoreContext) -> None:
        self._file = file
        self._context = context

    def authenticate(self, token: str) -> Caller | None:
        """Return who may restore into an instance without users, or None.

        Raises BootstrapSpent, PostgresUnavailable, UnknownSetting.
        """
        if not self._file.exists():
            return None
        known, _, made_at = read_secret_file(self._file).decode("ascii").partition("\n")
        offered = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if not hmac.compare_digest(offered, hashlib.sha256(known.encode("ascii")).digest()):
            return None
        made = datetime.fromisoformat(made_at.strip()).astimezone(UTC)
        with self._context.transaction("looking for users") as conn:
            self._check_unspent(conn, made)
        return Caller(BOOTSTRAP, BOOTSTRAP_PERMISSIONS)

    def _check_unspent(self, conn: Connection, made: datetime) -> None:
        last = self._context.history.last_restored(conn)
        if last is not None and datetime.fromisoformat(last.facts["ended_at"]) > made:
            raise BootstrapSpent(f"the restore {last.restore_id} has completed since it was made")
        exists = conn.execute("SELECT to_regclass('instance.users')").fetchone()
        if exists is None or exists[0] is None:
            return
        row = conn.execute("SELECT EXISTS (SELECT FROM instance.users)").fetchone()
        if row is not None and row[0]:
            raise BootstrapSpent("the instance has users")
