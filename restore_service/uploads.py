"""Uploaded archives: they come whole or in pieces, and go on where they broke off.

A piece is an object of its own, named by the offset at which it begins, and never changes. What
came of a piece that was cut off is kept. When the last one is there, the digest of all is noted:
an upload without that note was never finished.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from shared.errors import (
    ArchiveTruncated,
    ConflictError,
    DigestMismatch,
    NoSpace,
    ObjectNotFound,
    UploadNotFound,
    UploadOffset,
    UploadTooLarge,
    UsageError,
)
from shared.storage import ObjectInfo, ObjectReader, ObjectStore

CHUNK_BYTES: Final = 1 << 20
_FIRST, _MORE, _DIGEST = ".age", ".more", ".sha256"
KEPT_S: Final = 24 * 3600
# A disk that is full to its end takes with it whatever else lives there.
LEAST_FREE_BYTES: Final = 64 * 1024 * 1024
MOST_PIECES: Final = 10_000
_MOST_HASHES: Final = 32


class Source(Protocol):
    """What an upload is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""


@dataclass(frozen=True)
class Piece:
    """``size_bytes`` at ``offset`` of an upload that has ``total_bytes``.

    ``sha256`` is what all of it must have, where the sender says so.
    """

    upload_id: str
    offset: int
    size_bytes: int
    total_bytes: int
    sha256: str | None = None


@dataclass
class Hashes:
    """The digests of uploads that are coming in, so that nothing is read back to be hashed.

    It may forget: then what is there is read.
    """

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: OrderedDict[str, tuple[int, Any]] = field(default_factory=OrderedDict)

    def take(self, upload_id: str, offset: int) -> Any | None:
        """Return the digest of the first ``offset`` bytes, or None."""
        if offset == 0:
            return hashlib.sha256()
        with self._lock:
            at, digest = self._known.pop(upload_id, (-1, None))
        return digest if at == offset else None

    def keep(self, upload_id: str, offset: int, digest: Any) -> None:
        """Remember the digest of the first ``offset`` bytes."""
        with self._lock:
            self._known[upload_id] = (offset, digest)
            self._known.move_to_end(upload_id)
            while len(self._known) > _MOST_HASHES:
                self._known.popitem(last=False)


def archive_name(upload_id: object) -> str:
    """Return the name of an upload's first piece in the store of uploads."""
    return f"{upload_id}{_FIRST}"


def receive(
    uploads: ObjectStore, hashes: Hashes, piece: Piece, source: Source, max_bytes: int
) -> dict[str, Any]:
    """Stream a piece into the store and return how far the upload is; memory stays flat.

    Raises UploadTooLarge, UploadOffset unless the piece begins where the upload ends,
    ArchiveTruncated when less came than was said (what came is kept), DigestMismatch (then all of
    it is gone), NoSpace.
    """
    _check_fits(uploads, piece, max_bytes)
    present = find_upload(uploads, piece.upload_id)
    if present["complete"] or present["offset_bytes"] != piece.offset:
        raise UploadOffset(
            f"the upload {piece.upload_id} has {present['offset_bytes']:,} bytes"
            f"{', all of them' if present['complete'] else ''}; this piece begins at {piece.offset:,}"
        )
    digest = hashes.take(piece.upload_id, piece.offset)
    came = _store(uploads, piece, source, digest)
    end = piece.offset + came
    if digest is not None:
        hashes.keep(piece.upload_id, end, digest)
    if came < piece.size_bytes:
        raise ArchiveTruncated(
            f"the upload ended after {end:,} of {piece.total_bytes:,} bytes",
            hint="What came is kept: go on at that offset.",
        )
    if end == piece.total_bytes:
        _finish(uploads, piece, digest)
    return find_upload(uploads, piece.upload_id)


class FileOfForm(Source, Protocol):
    """A file of which only its end tells how large it is."""

    ended: bool


def receive_form(
    uploads: ObjectStore, upload_id: str, file: FileOfForm, length: int, max_bytes: int
) -> dict[str, Any]:
    """Stream the file of a form of ``length`` bytes into the store; memory stays flat.

    Raises UploadTooLarge, NoSpace, UsageError for an empty one, ArchiveTruncated when the sender
    was gone before its end.
    """
    form = Piece(upload_id, 0, length, length)
    _check_fits(uploads, form, max_bytes)
    digest = hashlib.sha256()
    came = _store(uploads, form, file, digest)
    if not file.ended:
        drop_upload(uploads, upload_id)
        raise ArchiveTruncated(f"the upload broke off after {came:,} bytes", hint="Send it again.")
    if not came:
        raise UsageError("no file is chosen, or it is empty", hint="Choose the backup's file.")
    _finish(uploads, Piece(upload_id, 0, came, came), digest)
    return find_upload(uploads, upload_id)


def _check_fits(uploads: ObjectStore, piece: Piece, max_bytes: int) -> None:
    if piece.total_bytes > max_bytes:
        raise UploadTooLarge(f"an upload may have {max_bytes:,} bytes at most")
    if piece.offset + piece.size_bytes > piece.total_bytes:
        raise UploadOffset(f"the piece goes beyond the {piece.total_bytes:,} bytes of the upload")
    free, missing = uploads.free_bytes(), piece.total_bytes - piece.offset
    if free is not None and free - missing < LEAST_FREE_BYTES:
        raise NoSpace(
            f"an upload of {missing:,} bytes does not fit: {free:,} are free, "
            f"{LEAST_FREE_BYTES:,} stay so"
        )


def _store(uploads: ObjectStore, piece: Piece, source: Source, digest: Any | None) -> int:
    """Store what comes of a piece, under its name; return how much that was."""
    came = 0
    writer = uploads.create(_name(piece.upload_id, piece.offset))
    try:
        while came < piece.size_bytes:
            data = _read(source, min(CHUNK_BYTES, piece.size_bytes - came))
            if not data:
                break
            if digest is not None:
                digest.update(data)
            came += len(data)
            writer.write(data)
        if came or not piece.size_bytes:
            _commit(writer.commit, piece)
    finally:
        writer.abort()
    return came


def _read(source: Source, size: int) -> bytes:
    """Return what comes; nothing when the sender is gone, however it went."""
    try:
        return source.read(size)
    except OSError:
        return b""


def _commit(commit: Any, piece: Piece) -> None:
    try:
        commit()
    except ConflictError:
        raise UploadOffset(
            f"another request brought the piece at {piece.offset:,} of {piece.upload_id}"
        ) from None


def _finish(uploads: ObjectStore, piece: Piece, digest: Any | None) -> None:
    if digest is None:
        digest = hashlib.sha256()
        with open_upload(uploads, piece.upload_id) as reader:
            while data := reader.read(CHUNK_BYTES):
                digest.update(data)
    found = digest.hexdigest()
    if piece.sha256 is not None and piece.sha256 != found:
        drop_upload(uploads, piece.upload_id)
        raise DigestMismatch(f"what arrived has the SHA-256 {found}")
    note = uploads.create(f"{piece.upload_id}{_DIGEST}")
    try:
        note.write(found.encode("ascii"))
        note.commit()
    finally:
        note.abort()


def _name(upload_id: str, offset: int) -> str:
    return archive_name(upload_id) if offset == 0 else f"{upload_id}.{offset:018d}{_MORE}"


def _pieces(uploads: ObjectStore, upload_id: object) -> list[ObjectInfo]:
    """Return the pieces of an upload in their order."""
    found = [
        info
        for info in uploads.list(f"{upload_id}.")
        if info.name.endswith(_MORE) or info.name == archive_name(upload_id)
    ]
    return sorted(found, key=lambda info: (info.name.endswith(_MORE), info.name))


def find_upload(uploads: ObjectStore, upload_id: str) -> dict[str, Any]:
    """Return how far an upload is; nothing of one that did not begin is 0 bytes."""
    pieces = _pieces(uploads, upload_id)
    if len(pieces) > MOST_PIECES:
        raise UploadTooLarge(f"an upload may have {MOST_PIECES:,} pieces at most")
    size = sum(info.size_bytes for info in pieces)
    shown: dict[str, Any] = {"upload_id": upload_id, "offset_bytes": size, "complete": False}
    with suppress(ObjectNotFound):
        sha256 = uploaded_sha256(uploads, upload_id)
        shown |= {"complete": True, "sha256": sha256, "size_bytes": size}
    return shown


def get_upload(uploads: ObjectStore, upload_id: str) -> dict[str, Any]:
    """Return how far an upload is. Raises UploadNotFound for one of which nothing came."""
    found = find_upload(uploads, upload_id)
    if not found["offset_bytes"] and not found["complete"]:
        raise UploadNotFound(f"nothing of an upload {upload_id} came")
    return found


class _Chained:
    """Pieces, read one after the other."""

    def __init__(self, uploads: ObjectStore, names: list[str]) -> None:
        self._uploads = uploads
        self._names = names
        self._open: Any = None
        self._reader: ObjectReader | None = None

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))
        while True:
            if self._reader is None:
                if not self._names:
                    return b""
                self._open = self._uploads.open(self._names.pop(0))
                self._reader = self._open.__enter__()
            if data := self._reader.read(size):
                return data
            self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.__exit__(None, None, None)
        self._open = self._reader = None


@contextmanager
def open_upload(uploads: ObjectStore, upload_id: object) -> Iterator[ObjectReader]:
    """Open an upload, all of its pieces as one. Raises ObjectNotFound."""
    pieces = _pieces(uploads, upload_id)
    if len(pieces) < 2:
        with uploads.open(archive_name(upload_id)) as reader:
            yield reader
        return
    chained = _Chained(uploads, [info.name for info in pieces])
    try:
        yield chained
    finally:
        chained.close()


def uploaded_sha256(uploads: ObjectStore, upload_id: object) -> str:
    """Return the SHA-256 that an upload had when it arrived. Raises ObjectNotFound."""
    with uploads.open(f"{upload_id}{_DIGEST}") as source:
        return source.read().decode("ascii")


def uploaded_bytes(uploads: ObjectStore, upload_id: object) -> int:
    """Return how many bytes of an upload are there. Raises ObjectNotFound for none."""
    uploads.stat(archive_name(upload_id))
    return sum(info.size_bytes for info in _pieces(uploads, upload_id))


def drop_upload(uploads: ObjectStore, upload_id: str) -> None:
    """Remove an upload, the note of its digest first."""
    uploads.delete(f"{upload_id}{_DIGEST}")
    for info in _pieces(uploads, upload_id):
        uploads.delete(info.name)


def drop_old_uploads(uploads: ObjectStore, needed: Collection[str]) -> None:
    """Remove uploads of more than a day ago that no open restore needs, finished or broken off."""
    limit = time.time() - KEPT_S
    uploads.sweep_abandoned(limit)
    newest: dict[str, float] = {}
    for found in uploads.list():
        upload_id = found.name.split(".", 1)[0]
        newest[upload_id] = max(newest.get(upload_id, 0.0), found.modified_at)
    for upload_id, modified_at in newest.items():
        if upload_id not in needed and modified_at <= limit:
            drop_upload(uploads, upload_id)
