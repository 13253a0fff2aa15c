"""Run requested backups, one after another: of all replicas one works at a time."""

from __future__ import annotations

import math
import threading
import time

import psycopg
import structlog

from backup_service.context import BackupContext
from backup_service.handlers.apply_retention import apply_waiting
from backup_service.handlers.create_backup import create_backup
from backup_service.handlers.recover import recover_backups
from backup_service.handlers.tend_backups import tend_backups
from shared.database import Connection, Lock, postgres_faults, try_lock
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

IDLE_S = 0.1
TEND_S = 5.0
RETRY_S = 1.0


class BackupWorker:
    """Take the worker's lock, recover, then make what was requested."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; lost parts are waited for."""
        while not stop.is_set():
            try:
                with (
                    postgres_faults("working"),
                    psycopg.connect(
                        self._context.settings.postgres.dsn, autocommit=True, connect_timeout=10
                    ) as conn,
                ):
                    self._work(conn, stop)
            except SecrynError as error:
                log.warning("worker.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _work(self, conn: Connection, stop: threading.Event) -> None:
        while not try_lock(conn, Lock.BACKUP_WORKER):
            if stop.wait(RETRY_S):
                return
        recover_backups(self._context)
        tended_at = -math.inf
        while not stop.is_set():
            # The lock's session is asked first: without it another replica may be at work.
            requested = self._context.history.in_state(conn, "requested")
            if time.monotonic() - tended_at >= TEND_S:
                tend_backups(self._context)
                tended_at = time.monotonic()
            apply_waiting(self._context)
            if requested:
                create_backup(self._context, requested[0])
                continue
            stop.wait(IDLE_S)
