"""The recipients that restore keys are sealed to: short-lived, in files, destroyed in time.

A sealed key opens here alone, and only for the command, the archive and the target that its body
names.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from restore_service.commands import ArchiveCommand
from shared.archive.age import HybridIdentity, Identity, open_sealed, parse_identity
from shared.archive.keyfile import KeyFile
from shared.errors import (
    KeyMalformed,
    SealedKeyRefused,
    SecrynError,
    UnknownSetting,
)
from shared.folders import prepare_folder
from shared.secretfiles import fsync_folder, read_secret_file, write_secret_file

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 128 * 1024
_SUFFIX = ".identity"


@dataclass(frozen=True)
class PublishedRecipient:
    """The present recipient and until when keys should be sealed to it (Unix time)."""

    recipient: str
    expires_at: int


class RecipientKeys:
    """The identities in ``folder``: the newest is published, older ones still open for a while."""

    def __init__(self, folder: Path, lifetime_s: int) -> None:
        self._folder = prepare_folder(folder)
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()

    def _files(self) -> list[tuple[int, Path]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            made_at = path.name.removesuffix(_SUFFIX)
            if made_at.isdigit():
                found.append((int(made_at), path))
        return sorted(found, reverse=True)

    def current(self) -> PublishedRecipient:
        """Return the present recipient, made anew when its time is over."""
        with self._lock:
            now = int(time.time())
            # One of the future was made before the clock was set back: its time comes.
            files = [found for found in self._files() if found[0] <= now]
            if not files or now - files[0][0] >= self._lifetime_s:
                path = self._folder / f"{now}{_SUFFIX}"
                text = HybridIdentity.generate().encode()
                # Of two replicas in the same second the first one's is the recipient of both.
                with suppress(FileExistsError):
                    write_secret_file(path, text.encode("ascii"))
                files = [(now, path), *files]
            made_at, path = files[0]
            identity = parse_identity(read_secret_file(path).decode("ascii"))
            self._destroy_old(now, files)
        return PublishedRecipient(identity.to_recipient().encode(), made_at + self._lifetime_s)

    def _destroy_old(self, now: int, files: list[tuple[int, Path]]) -> None:
        # A command sealed at the last moment of a lifetime may take another one to arrive.
        for made_at, path in files[1:]:
            if now - made_at > 2 * self._lifetime_s:
                # Where another replica was faster there is nothing left to do.
                with suppress(FileNotFoundError):
                    _destroy(path)
                fsync_folder(self._folder)

    def _identities(self) -> list[Identity]:
        found: list[Identity] = []
        with self._lock:
            for _, path in self._files():
                try:
                    found.append(parse_identity(read_secret_file(path).decode("ascii")))
                except (UnknownSetting, KeyMalformed, UnicodeDecodeError) as error:
                    # Most often another replica is destroying it at this moment.
                    log.warning("recipient.unreadable", made=path.stem, why=type(error).__name__)
        return found

    def unseal(self, command: ArchiveCommand, upload_sha256: str | None) -> KeyFile:
        """Return the key that ``command`` carries.

        Raises SealedKeyRefused when it does not open or names something else, KeyMalformed.
        """
        sealed = bytes.fromhex(command.sealed_key)
        try:
            body = json.loads(open_sealed(sealed, self._identities(), MAX_BODY_BYTES))
        except (SecrynError, ValueError, RecursionError):
            raise SealedKeyRefused(
                "the sealed key does not open with a present recipient"
            ) from None
        expected: dict[str, Any] = {
            "command_id": str(command.command_id),
            "target_instance_id": str(command.target_instance_id),
        }
        if command.backup_id is not None:
            expected["backup_id"] = str(command.backup_id)
        else:
            expected["sha256"] = upload_sha256
        if command.SEALED_FOR is not None:
            expected["action"] = command.SEALED_FOR
        if not isinstance(body, dict) or set(body) != {*expected, "key"}:
            raise SealedKeyRefused("the sealed key's body has not the fields that it must have")
        wrong = [name for name, value in expected.items() if body[name] != value]
        if wrong:
            raise SealedKeyRefused(f"the key was sealed for another {', '.join(wrong)}")
        if not isinstance(body["key"], str):
            raise KeyMalformed("the sealed body holds no key file")
        return KeyFile.parse(body["key"])


def _destroy(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
