"""Run accepted restores, one after another: of all replicas one works at a time.

A restore's key is in the memory of the process that accepted it, so that process runs it. Every
process holds a lock of its own while it lives: a restore whose runner's lock is free was abandoned.
"""

from __future__ import annotations

import threading
from uuid import UUID

import psycopg
import structlog

from restore_service.context import RestoreContext
from restore_service.handlers.preview import run_preview
from restore_service.handlers.recover import recover_restores
from restore_service.handlers.run_accepted import run_accepted
from restore_service.recipient.publish import publish_recipient
from shared.database import (
    Connection,
    Lock,
    hold_liveness,
    is_alive,
    postgres_faults,
    try_lock,
    unlock,
)
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

IDLE_S = 0.05
RECOVER_EVERY_S = 5.0
RETRY_S = 1.0


class RestoreWorker:
    """Take the worker's lock when there is work, recover, run what was accepted here."""

    def __init__(self, context: RestoreContext) -> None:
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
                    hold_liveness(conn, UUID(self._context.runner))
                    self._work(conn, stop)
            except SecrynError as error:
                log.warning("worker.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _work(self, conn: Connection, stop: threading.Event) -> None:
        idle_s = RECOVER_EVERY_S
        while not stop.is_set():
            due = idle_s >= RECOVER_EVERY_S
            if (due or self._context.accepted) and try_lock(conn, Lock.RESTORE_WORKER):
                try:
                    self._with_lock(conn)
                finally:
                    unlock(conn, Lock.RESTORE_WORKER)
                idle_s = 0.0
                publish_recipient(self._context)
            idle_s += IDLE_S
            stop.wait(IDLE_S)

    def _with_lock(self, conn: Connection) -> None:
        recover_restores(self._context, lambda runner: is_alive(conn, UUID(runner)))
        for restore_id in list(self._context.accepted):
            run_accepted(self._context, restore_id)


class PreviewWorker:
    """Run accepted previews, one after another, beside whatever restore is running."""

    def __init__(self, context: RestoreContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``."""
        while not stop.is_set():
            accepted = self._context.previews.take()
            if accepted is None:
                stop.wait(IDLE_S)
            else:
                run_preview(self._context, accepted)
