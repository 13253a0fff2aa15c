"""Taking one-time keys: whoever is stopped before a key is stored asks for it again and gets it.

A request for a key lives in a file beside the one that the key goes into (``.NAME.request``, 0600)
until the key stands there. The service answers the same request with the same key for a while
(``keys.repeat_window_s``, ten minutes), sealed to an identity that only this file holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired, Self, TypedDict

from shared.api.backups import SealedKey
from shared.api.keys import StoredKey, WaitingKeys
from shared.archive.age import HybridIdentity, open_sealed, parse_identity
from shared.archive.age.keytypes import Identity
from shared.client.http import Json, ServiceConnection, new_command_id
from shared.crashpoints import CrashPoint
from shared.errors import AccessError, ConflictError, KeyMalformed, NotFoundError, UsageError
from shared.secretfiles import fsync_folder, read_secret_file, write_secret_file

SEALED_KEY_MAX_BYTES = 64 * 1024
KEY_SUFFIX = ".key"
_REQUEST_SUFFIX = ".request"

REQUESTED = CrashPoint("keys.take.requested")
ANSWERED = CrashPoint("keys.take.answered")
STORED = CrashPoint("keys.take.stored")

_REFUSALS = (AccessError, ConflictError, NotFoundError, UsageError)

View = Callable[[str, "KeyRequest"], str]


@dataclass(frozen=True)
class KeyRequest:
    """One request for the key of a backup; its identity is in no repr."""

    backup_id: str
    request_id: str
    identity: Identity = field(repr=False)

    @classmethod
    def new(cls, backup_id: str) -> Self:
        """Return a request that nobody has made yet."""
        return cls(backup_id, new_command_id(), HybridIdentity.generate())

    def body(self) -> Json:
        """Return what the service is sent."""
        return {
            "request_id": self.request_id,
            "recipient": self.identity.to_recipient().encode(),
        }

    def open(self, answer: SealedKey) -> str:
        """Return the text of the key file that the service answered with."""
        sealed = bytes.fromhex(answer["sealed_key"])
        return open_sealed(sealed, [self.identity], SEALED_KEY_MAX_BYTES).decode("utf-8")

    def save(self, path: Path) -> None:
        """Write the request to ``path`` (0600): a secret until the key is stored."""
        document = {
            "backup_id": self.backup_id,
            "request_id": self.request_id,
            "identity": self.identity.encode(),
        }
        write_secret_file(path, json.dumps(document).encode("ascii"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a request. Raises UnknownSetting, KeyMalformed."""
        try:
            document = json.loads(read_secret_file(path))
            identity = parse_identity(str(document["identity"]))
            return cls(str(document["backup_id"]), str(document["request_id"]), identity)
        except (ValueError, KeyError, TypeError):
            raise KeyMalformed(f"{path} is not a request for a key") from None


def request_file(target: Path) -> Path:
    """Return where the request for the key that goes into ``target`` lives meanwhile."""
    return target.with_name(f".{target.name}{_REQUEST_SUFFIX}")


def take_key(view: View, backup_id: str, target: Path) -> None:
    """Take the key of a backup into ``target`` (0600), whole.

    Stopped at any moment, the same call gives the same key, for as long as the service repeats it.
    Raises UsageError when ``target`` is there, OSError, and what ``view`` raises.
    """
    pending = request_file(target)
    if pending.exists():
        request = KeyRequest.load(pending)
        if request.backup_id != backup_id:
            raise UsageError(f"{pending} asks for the key of another backup, {request.backup_id}")
        if target.exists():
            # Stored, and stopped before the request was forgotten.
            _forget(pending)
            return
    elif target.exists():
        raise UsageError(f"{target} exists", hint="Name a file that does not exist.")
    else:
        request = KeyRequest.new(backup_id)
        request.save(pending)
    REQUESTED.reach()
    try:
        key = view(backup_id, request)
    except _REFUSALS:
        # This request will not be given it any more; after any other fault it may.
        _forget(pending)
        raise
    ANSWERED.reach()
    write_secret_file(target, key.encode("utf-8"))
    STORED.reach()
    _forget(pending)


def _forget(pending: Path) -> None:
    pending.unlink()
    fsync_folder(pending.parent)


class TakenKey(TypedDict):
    """What became of one key: the file that it is in, or why somebody else has it."""

    backup_id: str
    key_file: NotRequired[str]
    code: NotRequired[str]
    message: NotRequired[str]


class KeyClient:
    """See which keys wait, and take all of them."""

    def __init__(self, connection: ServiceConnection, view: View) -> None:
        self._connection = connection
        self._view = view

    def waiting(self) -> WaitingKeys:
        """Return every key that waits, the first to expire first, with what is said of them all."""
        return self._connection.ask(WaitingKeys, "GET", "/api/v1/keys")

    def stored(self, request: KeyRequest) -> StoredKey:
        """Say that the key which ``request`` was given is stored: it is not given again."""
        path = f"/api/v1/backups/{request.backup_id}/key/stored"
        return self._connection.ask(StoredKey, "POST", path, {"request_id": request.request_id})

    def take_all(self, folder: Path) -> Iterator[TakenKey]:
        """Take every waiting key into ``folder``, as BACKUP.key; yield what became of each.

        What an earlier call, that was stopped, had asked for comes first. Yields ``backup_id``
        with ``key_file``, or with ``code`` and ``message`` where somebody else came first.
        Raises UnavailableError, AccessError: the next call goes on from there.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pending = sorted(folder.glob(f".*{KEY_SUFFIX}{_REQUEST_SUFFIX}"))
        found = [KeyRequest.load(path).backup_id for path in pending] or self._ids()
        seen: set[str] = set()
        while found:
            for backup_id in found:
                yield self._take(backup_id, folder / f"{backup_id}{KEY_SUFFIX}")
            seen.update(found)
            found = [backup_id for backup_id in self._ids() if backup_id not in seen]

    def _ids(self) -> list[str]:
        return [key["backup_id"] for key in self.waiting()["waiting"]]

    def _take(self, backup_id: str, target: Path) -> TakenKey:
        try:
            take_key(self._view, backup_id, target)
        except (ConflictError, UsageError) as error:
            return {"backup_id": backup_id, "code": error.code, "message": error.message}
        return {"backup_id": backup_id, "key_file": str(target)}
