"""Sign the audit chain every few minutes, so that it cannot be made anew without the key."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from serving.audit.reader import AuditReader
from shared.database import postgres_faults
from shared.errors import UnavailableError

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 300.0


class CheckpointKeeper:
    """A worker of each service; of several at once each signs what is not signed yet."""

    def __init__(self, reader: AuditReader) -> None:
        self._reader = reader

    def run(self, stop: threading.Event) -> None:
        """Sign until ``stop``."""
        while not stop.wait(INTERVAL_S):
            self.sign()

    def sign(self) -> bool:
        """Append a checkpoint if there is anything new; while PostgreSQL is away, none."""
        reader = self._reader
        try:
            with postgres_faults("signing the audit trail"), reader.pool.connection() as conn:
                return reader.trail.checkpoint(conn, reader.signer, reader.instance_id)
        except UnavailableError as error:
            log.warning("audit.not_signed", code=error.code)
            return False
