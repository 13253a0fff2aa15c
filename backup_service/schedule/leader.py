"""Of all replicas one leads: it takes the ticks and watches over the whole."""

from __future__ import annotations

import threading
from typing import Final

import psycopg
import structlog

from backup_service.context import BackupContext
from backup_service.handlers.follow_changes import follow_changes
from backup_service.handlers.run_schedule import run_schedule
from backup_service.handlers.watch_confirmations import watch_confirmations
from backup_service.handlers.watch_staleness import watch_staleness
from shared.database import Connection, Lock, postgres_faults, try_lock
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

POLL_S: Final = 0.5
RETRY_S: Final = 1.0
# What waits for a person, and what is counted in hours, is looked at so seldom.
_WATCH_EVERY: Final = 4


class ScheduleLeader:
    """Take the leader's lock and lead.

    The lock only keeps the others idle. That a tick is taken once is decided by its append: a
    leader that was paused and comes back finds it taken.
    """

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Lead or wait to, until ``stop``; lost parts are waited for."""
        while not stop.is_set():
            try:
                with (
                    postgres_faults("leading"),
                    psycopg.connect(
                        self._context.settings.postgres.dsn, autocommit=True, connect_timeout=10
                    ) as conn,
                ):
                    self._lead(conn, stop)
            except SecrynError as error:
                log.warning("schedule.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _lead(self, conn: Connection, stop: threading.Event) -> None:
        while not try_lock(conn, Lock.BACKUP_SCHEDULE):
            if stop.wait(POLL_S):
                return
        turn = 0
        while not stop.is_set():
            # The lock's session is asked first: without it another replica leads.
            conn.execute("SELECT 1")
            run_schedule(self._context)
            follow_changes(self._context)
            if turn % _WATCH_EVERY == 0:
                watch_staleness(self._context)
                watch_confirmations(self._context)
            turn += 1
            stop.wait(POLL_S)
