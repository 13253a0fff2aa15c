"""Whether the other replicas of a service go on, and an end to the sessions of one that stands still.

A lock of a session says that the session is there, and no more. A process that was stopped, or whose
machine is gone, keeps its sessions: its lock, its fence, perhaps the store's tables. So every process
names its sessions, and lets one of them move. Who sees another one not move for long enough has the
server end all that it has. Nothing is judged by a clock of two machines: a replica is silent while
this process looks at it and sees no change.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import psycopg
import structlog

from shared.database import Connection, postgres_faults
from shared.errors import SecrynError

log = structlog.get_logger(__name__)

BEAT_S: Final = 3.0
# With the time in which another one takes over (5 s) well below half a minute.
SILENT_S: Final = 15.0

_REPLICAS = """
SELECT application_name, max(state_change)::text FROM pg_stat_activity
WHERE datname = current_database() AND usename = session_user
AND starts_with(application_name, %s) AND application_name <> %s
GROUP BY application_name
"""
_END = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = session_user AND application_name = %s
"""


def process_name(service: str, process: UUID | None = None) -> str:
    """Return what the sessions of one process of ``service`` are called (PostgreSQL: at most 63)."""
    return f"{service} {process or uuid4()}"


@dataclass
class _Seen:
    """When a replica's sessions last moved, as the server said it, and since when by our clock."""

    moved: str
    since: float


@dataclass
class Pulse:
    """The heart of one process: its name is that of all its sessions (``process_name``)."""

    dsn: str
    name: str
    beat_s: float = BEAT_S
    silent_s: float = SILENT_S
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Beat until ``stop``; a database that is away is waited for."""
        while not stop.is_set():
            try:
                with (
                    postgres_faults("looking at the other replicas"),
                    psycopg.connect(self.dsn, autocommit=True, connect_timeout=10) as conn,
                ):
                    self._beat(conn, stop)
            except SecrynError as error:
                log.warning("pulse.interrupted", code=error.code, reason=error.message)
                stop.wait(self.beat_s)

    def _beat(self, conn: Connection, stop: threading.Event) -> None:
        # What was seen before the database was away says nothing now.
        self._seen.clear()
        while not stop.is_set():
            self.look(conn)
            stop.wait(self.beat_s)

    def look(self, conn: Connection) -> None:
        """Move, and end the sessions of each replica that has not moved for ``silent_s``."""
        service = self.name.rpartition(" ")[0]
        rows = conn.execute(_REPLICAS, (f"{service} ", self.name)).fetchall()
        now = time.monotonic()
        # Without `track_activities` nothing is known of anybody.
        present = {name: moved for name, moved in rows if moved is not None}
        for name in self._seen.keys() - present.keys():
            del self._seen[name]
        for name, moved in present.items():
            seen = self._seen.get(name)
            if seen is None or seen.moved != moved:
                self._seen[name] = _Seen(moved, now)
            elif now - seen.since >= self.silent_s:
                ended = conn.execute(_END, (name,)).fetchone()
                log.warning("replica.stands_still", replica=name, sessions=ended and ended[0])
