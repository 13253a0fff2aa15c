"""One-time keys from the end of a backup until they are viewed.

A waiting key is sealed (AES-256-GCM) under a key-encryption key of its own, which lies in a file
outside of the database and of the storage. Viewing replaces the sealed key by the same key sealed
to the viewer's one-time recipient, in one statement, commits, and then destroys the file: what is
left in heap, WAL or an old dump opens nothing.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.archive.age import parse_recipient, recipient_fingerprint, seal
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import KeyAlreadyViewed, KeyExpired, KeyNotReady, UnknownSetting
from shared.secretfiles import fsync_folder, read_secret_file, write_secret_file

log = structlog.get_logger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.waiting_keys (
    backup_id uuid PRIMARY KEY,
    sealed_waiting bytea,
    sealed_viewed bytea,
    request_id uuid,
    recipient text,
    viewed_by text,
    viewed_at timestamptz,
    repeat_until timestamptz
);
"""
_KEY_BYTES = 32
_NONCE_BYTES = 12

DEPOSITING = CrashPoint("backup.key.written")
OVERWRITTEN = CrashPoint("backup.key.overwritten")


@dataclass(frozen=True)
class Viewing:
    """What a viewing gave: the key file sealed to the viewer; ``first`` is false for a repeat."""

    sealed: bytes
    first: bool


class WaitingKeys:
    """The waiting keys of a place. ``folder`` holds their key-encryption keys."""

    def __init__(self, folder: Path, repeat_window_s: int) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnknownSetting(f"the folder {folder} cannot be made: {error}") from error
        self._folder = folder
        self._repeat_window = timedelta(seconds=repeat_window_s)

    def migrate(self, conn: Connection) -> None:
        """Make the table where it is missing."""
        conn.execute(_SCHEMA)

    def _path(self, backup_id: UUID) -> Path:
        return self._folder / f"{backup_id}.kek"

    def deposit(self, conn: Connection, backup_id: UUID, key_file_text: str) -> None:
        """Let a key wait; in the transaction that announces its backup.

        The key-encryption key is on the disk before the transaction can commit.
        """
        kek, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        write_secret_file(self._path(backup_id), kek.hex().encode("ascii"), exist_ok=True)
        DEPOSITING.reach()
        sealed = nonce + AESGCM(kek).encrypt(nonce, key_file_text.encode(), backup_id.bytes)
        conn.execute(
            "INSERT INTO backup.waiting_keys (backup_id, sealed_waiting) VALUES (%s, %s)",
            (backup_id, sealed),
        )

    def state(self, conn: Connection, backup_id: UUID) -> Literal["waiting", "viewed", "gone"]:
        """Return what is left of a backup's key here."""
        row = conn.execute(
            "SELECT sealed_waiting IS NOT NULL FROM backup.waiting_keys WHERE backup_id = %s",
            (backup_id,),
        ).fetchone()
        if row is None:
            return "gone"
        if not row[0]:
            return "viewed"
        return "waiting" if self._path(backup_id).exists() else "gone"

    def view(
        self, conn: Connection, backup_id: UUID, request_id: UUID, recipient: str, viewer: str
    ) -> Viewing:
        """Take the key, or repeat the viewing of the same request for a while.

        The row is locked until the transaction ends: of many callers one is first. The caller
        commits and then calls ``destroy``.

        Raises KeyNotReady, KeyAlreadyViewed (with when and by whom), KeyExpired.
        """
        row = conn.execute(
            "SELECT sealed_waiting, sealed_viewed, request_id, recipient, viewed_by, viewed_at, "
            "repeat_until FROM backup.waiting_keys WHERE backup_id = %s FOR UPDATE",
            (backup_id,),
        ).fetchone()
        if row is None:
            raise KeyNotReady(f"no key waits for the backup {backup_id}")
        waiting, viewed, first_request, first_recipient, viewed_by, viewed_at, repeat_until = row
        fingerprint = recipient_fingerprint(recipient)
        now = datetime.now(UTC)
        if waiting is None:
            same = first_request == request_id and hmac.compare_digest(first_recipient, fingerprint)
            if same and viewed is not None and now < repeat_until:
                return Viewing(bytes(viewed), first=False)
            raise KeyAlreadyViewed(
                f"the key of {backup_id} was viewed by {viewed_by} at "
                f"{viewed_at.astimezone(UTC).isoformat(timespec='seconds')}"
            )
        sealed = seal(self._open(backup_id, bytes(waiting)), [parse_recipient(recipient)])
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_waiting = NULL, sealed_viewed = %s, "
            "request_id = %s, recipient = %s, viewed_by = %s, viewed_at = %s, repeat_until = %s "
            "WHERE backup_id = %s",
            (sealed, request_id, fingerprint, viewer, now, now + self._repeat_window, backup_id),
        )
        return Viewing(sealed, first=True)

    def _open(self, backup_id: UUID, sealed: bytes) -> bytes:
        try:
            kek = bytes.fromhex(read_secret_file(self._path(backup_id)).decode("ascii"))
            nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return AESGCM(kek).decrypt(nonce, body, backup_id.bytes)
        except (UnknownSetting, ValueError, InvalidTag):
            raise KeyExpired(f"the key of {backup_id} cannot be opened any more") from None

    def forget(self, conn: Connection, backup_id: UUID, request_id: UUID) -> bool:
        """End the repeating of a viewing early; tell whether there was one of that request."""
        done = conn.execute(
            "UPDATE backup.waiting_keys SET sealed_viewed = NULL "
            "WHERE backup_id = %s AND request_id = %s AND sealed_viewed IS NOT NULL",
            (backup_id, request_id),
        )
        return done.rowcount > 0

    def destroy(self, backup_id: UUID) -> None:
        """Destroy the key-encryption key of a key that waits no longer; may be repeated."""
        path = self._path(backup_id)
        try:
            with path.open("r+b") as file:
                file.write(os.urandom(_KEY_BYTES * 2))
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        OVERWRITTEN.reach()
        path.unlink(missing_ok=True)
        fsync_folder(self._folder)

    def destroy_or_later(self, backup_id: UUID) -> None:
        """Destroy a key-encryption key; leave it to ``tidy`` where the disk refuses now."""
        try:
            self.destroy(backup_id)
        except OSError as error:
            log.error("key.not_destroyed", backup_id=str(backup_id), reason=error.strerror)

    def tidy(self, conn: Connection) -> None:
        """Forget viewings that may not be repeated any more, and keys left by a killed process."""
        conn.execute(
            "UPDATE backup.waiting_keys SET sealed_viewed = NULL "
            "WHERE sealed_viewed IS NOT NULL AND repeat_until < %s",
            (datetime.now(UTC),),
        )
        gone = conn.execute(
            "SELECT backup_id FROM backup.waiting_keys WHERE sealed_waiting IS NULL"
        )
        for (backup_id,) in gone.fetchall():
            self.destroy_or_later(backup_id)
