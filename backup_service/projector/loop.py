"""The projector's life: session after session, and what happens between two of them."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from typing import Final

import psycopg
import structlog

from backup_service.projector.faults import Halt, StoreMoved
from backup_service.projector.logcheck import check_log
from backup_service.projector.session import Session
from backup_service.projector.settings import FoldSettings
from backup_service.projector.status import ProjectorStatus, Stopped
from backup_service.projector.store import SCHEMA, Store
from shared.database import check_version
from shared.errors import (
    Interrupted,
    LogLost,
    SecrynError,
    StackUnsupportedServer,
    UnavailableError,
)
from shared.instance.position import LogPosition, read_position
from shared.kafka import Kafka
from shared.messages import IssuerRegistry
from shared.messages.topics import INSTANCE_EVENTS
from shared.settings import PostgresSettings

FIRST_BACKOFF_S: Final = 0.1
LAST_BACKOFF_S: Final = 5.0
# How often a stopped projector looks whether the log or the store is another one by now.
STOPPED_INTERVAL_S: Final = 1.0

log = structlog.get_logger(__name__)


class Projector:
    """Follow the instance log into the store, through lost connections and replaced states."""

    def __init__(
        self,
        kafka: Kafka,
        postgres: PostgresSettings,
        issuers: IssuerRegistry,
        status: ProjectorStatus,
        settings: FoldSettings,
    ) -> None:
        self._kafka = kafka
        self._postgres = postgres
        self._issuers = issuers
        self._status = status
        self._settings = settings
        self._topic = kafka.topic(INSTANCE_EVENTS)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop``; only a defect of this software leaves earlier.

        Raises StackUnsupportedServer when PostgreSQL is too old.
        """
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            batches = self._status.snapshot().batches
            try:
                self._session(stop)
            except Interrupted:
                return
            except StoreMoved:
                log.warning("projector.store_moved")
            except Halt as halt:
                self._stay_stopped(halt.stopped, stop)
            except LogLost as error:
                self._stay_stopped(Stopped(error.code, None, error.message, error.advice), stop)
            except (UnavailableError, psycopg.Error) as error:
                if self._status.snapshot().batches > batches:
                    backoff_s = FIRST_BACKOFF_S
                self._report_lost(error)
                # Spread out, so that several replicas do not come back in step.
                stop.wait(backoff_s * random.uniform(0.8, 1.2))  # noqa: S311
                backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
                continue
            backoff_s = FIRST_BACKOFF_S

    def _session(self, stop: threading.Event) -> None:
        with ExitStack() as stack:
            admin = stack.enter_context(self._kafka.admin())
            reader = stack.enter_context(self._kafka.log_reader(self._topic))
            conn = stack.enter_context(self._connect())
            store = Store.open(conn, admin.log_identity(self._topic), self._settings.position_role)
            session = Session(
                store,
                admin,
                reader,
                self._issuers,
                self._status,
                batch_events=self._settings.batch_events,
                poll_timeout_s=self._settings.poll_timeout_s,
            )
            session.run(stop)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Connect to the store. Raises StackUnsupportedServer when its server is too old."""
        conn = psycopg.connect(
            self._postgres.dsn,
            autocommit=True,
            connect_timeout=self._postgres.connect_timeout_s,
            application_name="secryn projector",
        )
        try:
            check_version(conn.info.server_version)
        except StackUnsupportedServer:
            conn.close()
            raise
        return conn

    def _report_lost(self, error: Exception) -> None:
        if isinstance(error, SecrynError):
            what = f"{error.code}: {error.message}"
        else:
            # libpq's text names hosts and roles, the server's may name values: the class will do.
            what = f"postgres.unavailable: {type(error).__name__}"
        self._status.lose(what)
        log.warning("projector.unavailable", what=what)

    def _stay_stopped(self, stopped: Stopped, stop: threading.Event) -> None:
        """Report ``stopped`` until the store is at another place, or the lost log is back."""
        row = self._row()
        self._status.halt(stopped, row)
        log.error("projector.stopped", **stopped.as_dict())
        while not stop.wait(STOPPED_INTERVAL_S):
            self._status.live()
            found = self._row()
            if row is None:
                # The store could not be read when it stopped: whatever it shows now is the base.
                row = found
                continue
            if found is not None and not found.same_place(row):
                log.warning("projector.store_moved")
                return
            if stopped.code == LogLost.code and self._log_is_back(found or row):
                log.warning("projector.log_found")
                return

    def _row(self) -> LogPosition | None:
        try:
            with self._connect() as conn:
                return read_position(conn, SCHEMA)
        except (psycopg.Error, LogLost) as error:
            log.warning("projector.store_unreadable", error=type(error).__name__)
            return None

    def _log_is_back(self, row: LogPosition) -> bool:
        try:
            with self._kafka.admin() as admin, self._kafka.log_reader(self._topic) as reader:
                check_log(row, admin, reader)
        except (LogLost, UnavailableError):
            return False
        return True
