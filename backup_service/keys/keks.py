"""Key-encryption keys: one a waiting key, each in a file of its own, gone when it is destroyed.

The folder lies outside of the database and of the storage; replicas share it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from uuid import UUID

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.crashpoints import CrashPoint
from shared.errors import KeyUnreadable, UnknownSetting
from shared.folders import prepare_folder
from shared.secretfiles import fsync_folder, read_secret_file, write_secret_file

log = structlog.get_logger(__name__)

_KEY_BYTES = 32
_NONCE_BYTES = 12
# A file, or what a process left of one that died while it wrote it.
_NAME = re.compile(r"^(?:\.)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.kek(\.[0-9a-f]+)?$")

WRITTEN = CrashPoint("keys.kek.written")
OVERWRITTEN = CrashPoint("keys.kek.overwritten")


class KekFolder:
    """The key-encryption keys of a place, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = prepare_folder(folder)

    def _path(self, backup_id: UUID) -> Path:
        return self._folder / f"{backup_id}.kek"

    def seal(self, backup_id: UUID, key: bytes) -> bytes:
        """Return ``key`` sealed (AES-256-GCM) under a new key-encryption key, which is on the disk."""
        kek, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        write_secret_file(self._path(backup_id), kek.hex().encode("ascii"), exist_ok=True)
        WRITTEN.reach()
        return nonce + AESGCM(kek).encrypt(nonce, key, backup_id.bytes)

    def open(self, backup_id: UUID, sealed: bytes) -> bytes:
        """Return what ``seal`` was given. Raises KeyUnreadable."""
        try:
            kek = bytes.fromhex(read_secret_file(self._path(backup_id)).decode("ascii"))
            nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return AESGCM(kek).decrypt(nonce, body, backup_id.bytes)
        except UnknownSetting as error:
            raise KeyUnreadable(f"the key of {backup_id} waits, but {error.message}") from None
        except (ValueError, InvalidTag):
            raise KeyUnreadable(
                f"the key of {backup_id} waits, but {self._path(backup_id)} does not open it"
            ) from None

    def holds(self, backup_id: UUID) -> bool:
        """Tell whether the key-encryption key is there."""
        return self._path(backup_id).exists()

    def found(self) -> set[UUID]:
        """Return the backups of which there is a file, or a part of one."""
        names = (_NAME.match(path.name) for path in self._folder.iterdir())
        return {UUID(name[1]) for name in names if name is not None}

    def destroy(self, backup_id: UUID) -> None:
        """Overwrite and remove a key-encryption key, and what is left of it; may be repeated."""
        for path in [self._path(backup_id), *self._folder.glob(f".{backup_id}.kek.*")]:
            self._destroy_file(path)

    def _destroy_file(self, path: Path) -> None:
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
        """Destroy a key-encryption key; where the disk refuses now, the watch does it later."""
        try:
            self.destroy(backup_id)
        except OSError as error:
            log.error("key.not_destroyed", backup_id=str(backup_id), reason=error.strerror)
