"""Verify stored backups by themselves: of all replicas one at a time, the oldest-verified first.

What is due follows from the history alone: whoever takes over goes on where another one ended.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final

import psycopg
import structlog

from backup_service.configuration.reading import read_configured
from backup_service.configuration.verification import Verification
from backup_service.context import BackupContext
from backup_service.handlers.check_storage import check_storage, last_check
from backup_service.handlers.verify_backup import verify_backup
from backup_service.verification.pace import Pace
from serving.requester import Requester
from shared.crashpoints import CrashPoint
from shared.database import Connection, Lock, postgres_faults, try_lock
from shared.errors import BackupNotFound, ConflictError, LogLost, SecrynError

log = structlog.get_logger(__name__)

IDLE_S: Final = 5.0
RETRY_S: Final = 5.0
# The storage is compared with the history at least this often while anything is verified.
CHECK_EVERY: Final = timedelta(days=1)
VERIFIER: Final = Requester(
    "verification", frozenset({"read"}), "schedule", "verification", unattended=True
)

DUE = CrashPoint("backup.verification.due")


class VerificationWorker:
    """Take the verifier's lock, then verify what is due for as long as something is."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; lost parts are waited for."""
        while not stop.is_set():
            try:
                with (
                    postgres_faults("verifying"),
                    psycopg.connect(
                        self._context.settings.postgres.dsn, autocommit=True, connect_timeout=10
                    ) as conn,
                ):
                    self._work(conn, stop)
            except SecrynError as error:
                log.warning("verification.interrupted", code=error.code, reason=error.message)
            stop.wait(RETRY_S)

    def _work(self, conn: Connection, stop: threading.Event) -> None:
        while not try_lock(conn, Lock.BACKUP_VERIFIER):
            if stop.wait(RETRY_S):
                return
        while not stop.is_set():
            # The lock's session is asked: without it another replica may be at work.
            if not verify_next(self._context, conn, stop):
                stop.wait(IDLE_S)


def verify_next(context: BackupContext, conn: Connection, stop: threading.Event) -> bool:
    """Verify the one backup that is due the longest, or check the storage; tell whether one was.

    Raises UnavailableError: then nothing is known of it, and it stays due. Interrupted at a stop.
    """
    plan = present_plan(context, conn)
    if plan is None or plan.every_s is None:
        return False
    backup_id = _due(context, conn, plan.every_s)
    if backup_id is not None:
        DUE.reach()
        # One that was purged, or is being, since it was found is none of ours.
        try:
            verify_backup(context, backup_id, VERIFIER, Pace(plan.bytes_per_s, stop).read)
        except (ConflictError, BackupNotFound) as error:
            log.info("verification.passed_over", backup_id=backup_id, code=error.code)
        return True
    checked_at = last_check(context, conn)
    every = min(CHECK_EVERY, timedelta(seconds=plan.every_s))
    if checked_at is None or checked_at <= context.clock.now() - every:
        check_storage(context, VERIFIER)
        return True
    return False


def present_plan(context: BackupContext, conn: Connection) -> Verification | None:
    """Return the setting as it is, whoever's data brought it; None while there is no instance yet."""
    try:
        # One statement's view would not do: a cut-over may come between two of them.
        with conn.transaction():
            return read_configured(conn, context.store, Verification).value
    except LogLost:
        return None


def _due(context: BackupContext, conn: Connection, every_s: int) -> str | None:
    """Return the backup whose last verification, or proof, lies back the furthest and too far."""
    row = conn.execute(
        "SELECT backup_id FROM backup.backups WHERE state = 'created' "
        "AND coalesce(verified_at, proven_at, requested_at) <= %s "
        "ORDER BY coalesce(verified_at, proven_at, requested_at), requested_position LIMIT 1",
        (context.clock.now() - timedelta(seconds=every_s),),
    ).fetchone()
    return None if row is None else str(row[0])
