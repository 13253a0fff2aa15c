"""The proof: the stored object is read back and checked to the last byte and row."""

from __future__ import annotations

from collections.abc import Callable

from shared.archive.age import Identity
from shared.archive.verify import verify_archive
from shared.archive.writer import ArchiveSummary
from shared.errors import ArchiveError, ObjectNotFound, ProofFailed
from shared.storage import ObjectStore


def prove(
    objects: ObjectStore,
    name: str,
    written: ArchiveSummary,
    identity: Identity,
    on_progress: Callable[[int], None],
) -> None:
    """Read ``name`` back and compare everything with what was ``written``. Raises ProofFailed."""
    try:
        with objects.open(name) as source:
            found = verify_archive(source, [identity], progress=on_progress)
    except (ArchiveError, ObjectNotFound) as error:
        raise ProofFailed(f"the stored object does not check out: {error.message}") from error
    if found.sha256 != written.sha256 or found.size_bytes != written.size_bytes:
        raise ProofFailed("the storage gave other bytes back than were written")
    if found.manifest != written.manifest:
        raise ProofFailed("the stored manifest is not the one that was written")
