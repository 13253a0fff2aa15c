"""A service's own HTTP server in this process, on a real PostgreSQL, without the rest of a service.

with served(app, board, http) as url: ...
backups = BackupServer.create(postgres, folder)     # backup_service's routes, a history to fill
restores = RestoreServer.create(postgres, folder)   # restore_service's
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from flask import Flask

from backup_service import events as ev
from backup_service.api import application as backup_application
from backup_service.context import BackupContext, object_name
from restore_service.api import application as restore_application
from restore_service.context import RestoreContext
from serving.app import Readiness
from serving.audit import RefusalAudit
from serving.runtime import build_server
from serving.watching import WatchBoard
from shared.clock import SYSTEM_CLOCK
from shared.eventstore import NewEvent
from shared.settings import HttpSettings
from tests.keeping import append, offline_context, running
from tests.plugins.postgres import TestPostgres
from tests.restoring import Restoring

BEARER = {"Authorization": "Bearer token"}
TOKEN = "token"


@contextmanager
def served(app: Flask, board: WatchBoard, http: HttpSettings) -> Iterator[str]:
    """Serve ``app`` as a service does; the board looks meanwhile. Gives its address."""
    stop = threading.Event()
    looking = threading.Thread(target=board.run, args=(stop,), daemon=True)
    looking.start()
    server = build_server("test", app, http)
    server.prepare()
    serving = threading.Thread(target=server.serve, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.bind_addr[1]}"
    finally:
        stop.set()
        looking.join(10)
        server.stop()
        serving.join(10)


def board_of(context: BackupContext | RestoreContext, watchers: int = 4) -> WatchBoard:
    """Return a board that looks when it is run."""
    return WatchBoard(context.store, context.pool, context.progress, slots=watchers)


def backup_http(context: BackupContext, board: WatchBoard) -> Flask:
    """Return backup_service's application."""
    access, refusals = backup_application.access_of(context), RefusalAudit(context.record)
    return backup_application.create_http(context, access, Readiness(), refusals, board)


def restore_http(context: RestoreContext, board: WatchBoard) -> Flask:
    """Return restore_service's application."""
    access, refusals = restore_application.access_of(context), RefusalAudit(context.record)
    return restore_application.create_http(context, access, Readiness(), refusals, board)


@dataclass
class BackupServer:
    """backup_service's routes over a history that a test fills."""

    context: BackupContext
    board: WatchBoard
    app: Flask

    @classmethod
    def create(cls, postgres: TestPostgres, folder: Path, watchers: int = 8) -> BackupServer:
        place = postgres.fresh_place()
        context = offline_context(place.dsn("secryn_backup"), folder, SYSTEM_CLOCK)
        board = board_of(context, watchers)
        return cls(context, board, backup_http(context, board))

    def running(self) -> str:
        """Return the id of a backup that is being made."""
        backup_id = running(self.context)
        self.context.progress.begin(backup_id)
        return backup_id

    def finish(self, backup_id: str, content: bytes = b"an object") -> None:
        """Let a backup come about with ``content``."""
        writer = self.context.objects.create(object_name(backup_id))
        writer.write(content)
        writer.commit()
        facts = {
            "backup_id": backup_id, "size_bytes": len(content), "location": "here", "offset": 1,
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        append(self.context, backup_id, NewEvent(ev.CREATED, facts))
        self.context.progress.end(backup_id)

    def created(self, content: bytes) -> str:
        """Return the id of a backup that has an object."""
        backup_id = self.running()
        self.finish(backup_id, content)
        return backup_id


@dataclass
class RestoreServer:
    """restore_service's routes."""

    context: RestoreContext
    board: WatchBoard
    app: Flask

    @classmethod
    def create(cls, postgres: TestPostgres, folder: Path) -> RestoreServer:
        context = Restoring.create(postgres, folder).context
        board = board_of(context)
        return cls(context, board, restore_http(context, board))


def new_id() -> str:
    return str(uuid4())
