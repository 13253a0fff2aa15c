"""Uploaded archives: streamed to a folder of their own, with the digest they arrived with."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from typing import Any, Protocol

from shared.errors import ArchiveLimitExceeded, ArchiveTruncated, NoSpace, ObjectNotFound
from shared.storage import ObjectStore

CHUNK_BYTES = 1 << 20
_ARCHIVE, _DIGEST = ".age", ".sha256"
KEPT_S = 24 * 3600
# A disk that is full to its end takes with it whatever else lives there.
LEAST_FREE_BYTES = 64 * 1024 * 1024


class Source(Protocol):
    """What an upload is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""


def archive_name(upload_id: object) -> str:
    """Return the name of an uploaded archive in the store of uploads."""
    return f"{upload_id}{_ARCHIVE}"


def store_upload(
    uploads: ObjectStore, upload_id: str, source: Source, expected_bytes: int, max_bytes: int
) -> dict[str, Any]:
    """Stream ``source`` into the store, whole or not at all; memory stays flat.

    Raises ArchiveTruncated when fewer than ``expected_bytes`` came, ArchiveLimitExceeded,
    ConflictError for an id that was used, NoSpace.
    """
    if expected_bytes > max_bytes:
        raise ArchiveLimitExceeded(f"an upload may have {max_bytes:,} bytes at most")
    free = uploads.free_bytes()
    if free is not None and free - expected_bytes < LEAST_FREE_BYTES:
        raise NoSpace(
            f"an upload of {expected_bytes:,} bytes does not fit: {free:,} are free, "
            f"{LEAST_FREE_BYTES:,} stay so"
        )
    digest, size_bytes = hashlib.sha256(), 0
    writer = uploads.create(archive_name(upload_id))
    try:
        while size_bytes < expected_bytes:
            data = source.read(min(CHUNK_BYTES, expected_bytes - size_bytes))
            if not data:
                raise ArchiveTruncated(
                    f"the upload ended after {size_bytes:,} of {expected_bytes:,} bytes"
                )
            digest.update(data)
            size_bytes += len(data)
            writer.write(data)
        writer.commit()
    finally:
        writer.abort()
    # Second: an upload without its digest was never finished, and is refused as not there.
    note = uploads.create(f"{upload_id}{_DIGEST}")
    try:
        note.write(digest.hexdigest().encode("ascii"))
        note.commit()
    finally:
        note.abort()
    return {"upload_id": upload_id, "sha256": digest.hexdigest(), "size_bytes": size_bytes}


def uploaded_sha256(uploads: ObjectStore, upload_id: object) -> str:
    """Return the SHA-256 that an upload had when it arrived. Raises ObjectNotFound."""
    with uploads.open(f"{upload_id}{_DIGEST}") as source:
        return source.read().decode("ascii")


def drop_old_uploads(uploads: ObjectStore, needed: Collection[str]) -> None:
    """Remove uploads of more than a day ago that no open restore needs, finished or broken off."""
    limit = time.time() - KEPT_S
    uploads.sweep_abandoned(limit)
    for found in list(uploads.list()):
        upload_id = found.name.rsplit(".", 1)[0]
        if upload_id in needed or found.modified_at > limit:
            continue
        try:
            uploads.delete(found.name)
        except ObjectNotFound:
            continue
