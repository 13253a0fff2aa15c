"""The thread that watches the waiting keys; every replica has one."""

from __future__ import annotations

import threading

import structlog

from backup_service.context import BackupContext
from backup_service.handlers.watch_keys import watch_keys
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

EVERY_S = 10.0


class KeyWatch:
    """Look every ten seconds at what is due."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop``; lost parts are waited for."""
        while not stop.is_set():
            try:
                watch_keys(self._context)
            except SecrynError as error:
                log.warning("keys.unwatched", code=error.code, reason=error.message)
            stop.wait(EVERY_S)
