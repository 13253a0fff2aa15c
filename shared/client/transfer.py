"""Large files to and from a service: flat memory, and on from where it broke off."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID, uuid4, uuid5

from shared.api.restores import Upload
from shared.client.http import ServiceConnection
from shared.errors import (
    ArchiveAltered,
    ConflictError,
    NotFoundError,
    UnavailableError,
    UploadOffset,
)
from shared.secretfiles import fsync_folder

CHUNK_BYTES: Final = 1 << 20
# What a service that dies in the middle loses of an upload.
PIECE_BYTES: Final = 64 * 1024 * 1024
# A service that restarts is waited for: so long without a byte ends it.
PATIENCE_S: Final = 30.0
RETRY_S: Final = 0.5
PART: Final = ".part"
_UPLOADS: Final = UUID("2f1c5a0e-6b0f-5d6e-8f1e-64d1f4f0a7b3")


def download_file(
    connection: ServiceConnection, path: str, target: Path, size_bytes: int, sha256: str
) -> None:
    """Write the object at ``path`` to ``target`` (0600), whole or not at all.

    It comes into ``target.part``; one that is there already is gone on with. Raises ArchiveAltered
    when what arrived is not ``sha256`` (the part is removed), FileExistsError when ``target`` is
    there, ConflictError when another download writes the part, UnavailableError.
    """
    part = target.with_name(target.name + PART)
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "r+b", buffering=CHUNK_BYTES) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another download writes {part}") from None
        download = _Download(connection, path, file, size_bytes, sha256)
        download.run()
        file.flush()
        os.fsync(file.fileno())
        if download.digest.hexdigest() != sha256:
            part.unlink()
            raise ArchiveAltered(f"the download {target.name} is not what was stored")
    # A link never replaces: the name is taken, or it is ours, whole.
    os.link(part, target)
    part.unlink()
    fsync_folder(target.resolve().parent)


@dataclass
class _Download:
    connection: ServiceConnection
    path: str
    file: BinaryIO
    size_bytes: int
    sha256: str
    have: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def run(self) -> None:
        """Take up what is there and fetch the rest."""
        if os.fstat(self.file.fileno()).st_size <= self.size_bytes:
            while chunk := self.file.read(CHUNK_BYTES):
                self._note(chunk)
        else:
            self._begin_anew()
        last_came, patience = self.have, time.monotonic() + PATIENCE_S
        while self.have < self.size_bytes:
            try:
                self._fetch()
            except UnavailableError:
                now = time.monotonic()
                if self.have > last_came:
                    last_came, patience = self.have, now + PATIENCE_S
                elif now > patience:
                    raise
                time.sleep(RETRY_S)

    def _fetch(self) -> None:
        headers = {}
        if self.have:
            headers = {"Range": f"bytes={self.have}-", "If-Range": f'"{self.sha256}"'}
        with self.connection.stream("GET", self.path, headers) as response:
            if self.have and response.status_code != 206:
                self._begin_anew()
            # As they come: to gather them into larger ones takes longer than all the rest.
            for chunk in response.iter_raw():
                self.file.write(chunk)
                self._note(chunk)
                if self.have > self.size_bytes:
                    raise ArchiveAltered("the service sends more than the object has")

    def _note(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.have += len(chunk)

    def _begin_anew(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.have, self.digest = 0, hashlib.sha256()


def upload_file(connection: ServiceConnection, file: Path) -> Upload:
    """Stream ``file`` to the service in pieces; return its ``upload_id``, ``sha256``, ``size_bytes``.

    The same file again goes on where it broke off, from another process too. Raises ArchiveAltered
    when what arrived is not what was read, UploadTooLarge, NoSpace, UnavailableError.
    """
    found = file.stat()
    about = f"{uuid.getnode()}:{file.resolve()}:{found.st_size}:{found.st_mtime_ns}"
    with file.open("rb") as source:
        stored = _Uploading(connection, source, found.st_size).run(str(uuid5(_UPLOADS, about)))
        if stored is None:
            # Another file lies under this name and id: this one gets an id of its own.
            stored = _Uploading(connection, source, found.st_size).run(str(uuid4()))
    if stored is None:
        raise ArchiveAltered(f"what arrived of {file.name} is not what was sent")
    return stored


@dataclass
class _Uploading:
    connection: ServiceConnection
    source: BinaryIO
    size_bytes: int
    hashed: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def run(self, upload_id: str) -> Upload | None:
        """Bring the upload to its end; None when what is there is not this file."""
        state = self._state(upload_id)
        patience = time.monotonic() + PATIENCE_S
        while not state["complete"]:
            if state["offset_bytes"] > self.size_bytes:
                return None
            before = state["offset_bytes"]
            try:
                state = self._send(upload_id, before)
            except (UnavailableError, UploadOffset):
                if time.monotonic() > patience:
                    raise
                time.sleep(RETRY_S)
                state = self._state_again(upload_id, state)
            if state["offset_bytes"] > before:
                patience = time.monotonic() + PATIENCE_S
        self._hash_to(self.size_bytes)
        return state if state["sha256"] == self.digest.hexdigest() else None

    def _state(self, upload_id: str) -> Upload:
        try:
            return self.connection.ask(Upload, "GET", f"/api/v1/uploads/{upload_id}")
        except NotFoundError:
            return {"upload_id": upload_id, "complete": False, "offset_bytes": 0}

    def _state_again(self, upload_id: str, known: Upload) -> Upload:
        try:
            return self._state(upload_id)
        except UnavailableError:
            return known

    def _send(self, upload_id: str, offset: int) -> Upload:
        size = min(PIECE_BYTES, self.size_bytes - offset)
        self._hash_to(offset)
        headers: Mapping[str, str] = {
            "Content-Type": "application/partial-upload",
            "Content-Length": str(size),
            "Upload-Offset": str(offset),
            "Upload-Length": str(self.size_bytes),
        }
        path = f"/api/v1/uploads/{upload_id}"
        return self.connection.send(Upload, "PATCH", path, self._chunks(offset, size), headers)

    def _chunks(self, offset: int, size: int) -> Iterator[bytes]:
        self.source.seek(offset)
        end = offset + size
        while offset < end and (chunk := self.source.read(min(CHUNK_BYTES, end - offset))):
            self._hash(offset, chunk)
            offset += len(chunk)
            yield chunk

    def _hash_to(self, end: int) -> None:
        self.source.seek(self.hashed)
        while self.hashed < end:
            chunk = self.source.read(min(CHUNK_BYTES, end - self.hashed))
            if not chunk:
                return
            self._hash(self.hashed, chunk)

    def _hash(self, offset: int, chunk: bytes) -> None:
        """Take each byte once, in its order, however often it is sent."""
        new = offset + len(chunk) - self.hashed
        if new > 0:
            self.digest.update(chunk[-new:])
            self.hashed += new
