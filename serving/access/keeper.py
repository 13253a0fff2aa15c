"""What has to be done about access while nobody asks: forget what is old, write what was counted."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from serving.access.attempts import forget_attempts
from serving.access.context import Access
from serving.access.devices import forget_devices
from serving.access.sessions import forget_sessions
from serving.audit import RefusalAudit
from shared.errors import UnavailableError

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 60.0


class AccessKeeper:
    """A worker of each service; several at once do no harm."""

    def __init__(self, access: Access, refusals: RefusalAudit) -> None:
        self._access = access
        self._refusals = refusals

    def run(self, stop: threading.Event) -> None:
        """Keep until ``stop``; what was counted is written at the end, too."""
        while not stop.wait(INTERVAL_S):
            self.tidy()
        self._refusals.flush()

    def tidy(self) -> None:
        """Do it once; while PostgreSQL is away, not at all."""
        self._refusals.flush()
        try:
            with self._access.transaction("forgetting old sessions") as conn:
                now = self._access.clock.now()
                forget_attempts(conn, now)
                forget_devices(conn, now)
                forget_sessions(self._access, conn)
        except UnavailableError as error:
            log.warning("access.not_tidied", code=error.code)
