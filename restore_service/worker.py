"""Run what was accepted, one after another: of all replicas one works at a time.

Restores and rehearsals have a worker each: a restore never waits for a rehearsal. A restore's key is
in the memory of the process that accepted it, so that process runs it. Every process holds a lock of
its own while it lives: a restore whose runner's lock is free was abandoned.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import ClassVar
from uuid import UUID

import psycopg
import structlog

from restore_service.context import RestoreContext
from restore_service.handlers.end_rehearsal import recover_rehearsals
from restore_service.handlers.preview import run_preview
from restore_service.handlers.recover import RunnerLives, recover_restores
from restore_service.handlers.rehearse import run_rehearsal
from restore_service.handlers.rehearse_by_schedule import rehearse_by_schedule
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


class _Worker(ABC):
    """Take one lock when there is work, recover, run what was accepted here."""

    lock: ClassVar[Lock]

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
                    self._begin(conn)
                    self._work(conn, stop)
            except SecrynError as error:
                log.warning("worker.interrupted", code=error.code, reason=error.message)
                stop.wait(RETRY_S)

    def _work(self, conn: Connection, stop: threading.Event) -> None:
        idle_s = RECOVER_EVERY_S
        while not stop.is_set():
            due = idle_s >= RECOVER_EVERY_S
            if (due or self._accepted()) and try_lock(conn, self.lock):
                try:
                    self._with_lock(lambda runner: is_alive(conn, UUID(runner)))
                finally:
                    unlock(conn, self.lock)
                idle_s = 0.0
                self._now_and_then()
            idle_s += IDLE_S
            stop.wait(IDLE_S)

    @abstractmethod
    def _begin(self, conn: Connection) -> None:
        """Do what a new session begins with."""

    @abstractmethod
    def _now_and_then(self) -> None:
        """Do what is due with every recovery, and needs no lock."""

    @abstractmethod
    def _accepted(self) -> bool:
        """Tell whether something waits for this process."""

    @abstractmethod
    def _with_lock(self, runner_lives: RunnerLives) -> None:
        """Recover, then run what was accepted."""


class RestoreWorker(_Worker):
    """Run restores and undos; its session shows that this process lives."""

    lock = Lock.RESTORE_WORKER

    def _begin(self, conn: Connection) -> None:
        hold_liveness(conn, UUID(self._context.runner))

    def _now_and_then(self) -> None:
        publish_recipient(self._context)

    def _accepted(self) -> bool:
        return bool(self._context.accepted)

    def _with_lock(self, runner_lives: RunnerLives) -> None:
        recover_restores(self._context, runner_lives)
        for restore_id in list(self._context.accepted):
            run_accepted(self._context, restore_id)


class RehearsalWorker(_Worker):
    """Run rehearsals, beside whatever restore there is; take the ticks of those by themselves."""

    lock = Lock.REHEARSAL_WORKER

    def _begin(self, conn: Connection) -> None:
        """Begin with nothing: the restores' session shows that this process lives."""

    def _now_and_then(self) -> None:
        """Do nothing else."""

    def _accepted(self) -> bool:
        return bool(self._context.to_rehearse)

    def _with_lock(self, runner_lives: RunnerLives) -> None:
        recover_rehearsals(self._context, runner_lives)
        for rehearsal_id in list(self._context.to_rehearse):
            run_rehearsal(self._context, rehearsal_id)
        # What is taken here is run at the next turn, which comes at once.
        rehearse_by_schedule(self._context)


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
