"""A download: under a lease, so that nobody purges the backup while its bytes go out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import structlog

from backup_service.context import BackupContext, object_name
from backup_service.leases import RENEW_S, end_lease, renew_lease, take_lease
from shared.database import postgres_faults
from shared.errors import ConflictError, SecrynError

log = structlog.get_logger(__name__)

CHUNK_BYTES: Final = 1 << 20


def begin_download(context: BackupContext, backup_id: str) -> UUID:
    """Take a lease on a backup that is there. Raises ConflictError, BackupNotFound."""
    with postgres_faults("taking a lease"), context.pool.connection() as conn:
        # Behind the append lock no purge begins in between.
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.state != "created":
            raise ConflictError(f"the backup {backup_id} is {backup.state}")
        return take_lease(conn, backup_id)


def download(
    context: BackupContext, backup_id: str, part: tuple[int, int], lease_id: UUID
) -> Iterator[bytes]:
    """Yield the object's bytes of ``part``, its end not in it; the lease lasts until they are out."""
    start, end = part
    left = end - start
    renewed = time.monotonic()
    try:
        with context.objects.open(object_name(backup_id), start) as source:
            while left and (data := source.read(min(CHUNK_BYTES, left))):
                left -= len(data)
                yield data
                if time.monotonic() - renewed > RENEW_S:
                    renewed = time.monotonic()
                    _renew(context, lease_id)
    finally:
        _end(context, lease_id)


def _renew(context: BackupContext, lease_id: UUID) -> None:
    try:
        with postgres_faults("renewing a lease"), context.pool.connection() as conn:
            renew_lease(conn, lease_id)
    except SecrynError as error:
        # The bytes go out all the same; a while later the lease is over.
        log.warning("download.lease_not_renewed", code=error.code)


def _end(context: BackupContext, lease_id: UUID) -> None:
    try:
        with postgres_faults("ending a lease"), context.pool.connection() as conn:
            end_lease(conn, lease_id)
    except SecrynError as error:
        log.warning("download.lease_not_ended", code=error.code)
