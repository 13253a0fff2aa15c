"""Every time that the rules were to be applied: asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from backup_service import events as ev
from backup_service.readmodel import ReadModel
from shared.database import Connection
from shared.errors import RetentionRunNotFound
from shared.eventstore import EventMeta, NewEvent, StoredEvent

_ROWS = """
CREATE TABLE {0} (
    run_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL
);
"""
_INDEXES = """
CREATE INDEX ON {0} (position) WHERE state = 'requested';
"""
_UPSERT = """
INSERT INTO {0} (run_id, position, state, document) VALUES (%s, %s, %s, %s)
ON CONFLICT (run_id) DO UPDATE SET state = EXCLUDED.state, document = EXCLUDED.document
"""
_STREAM = "retention-"
REQUESTED, APPLIED, FAILED = "requested", "applied", "failed"


def stream_of(run_id: object) -> str:
    """Return the name of a run's stream."""
    return f"{_STREAM}{run_id}"


class RetentionRuns(ReadModel):
    """The runs of one instance; every method runs in the caller's transaction."""

    NAME = "retention runs"
    LAYOUT = 1
    TABLES = ("retention_runs",)
    SCHEMA = _ROWS
    INDEXES = _INDEXES

    def apply(self, conn: Connection, events: Sequence[StoredEvent], beside: str = "") -> None:
        """Bring the rows of the runs that ``events`` are of up to their streams."""
        for stream in sorted({e.stream for e in events if e.stream.startswith(_STREAM)}):
            told = self._store.read_stream(conn, stream)
            run = _fold(stream.removeprefix(_STREAM), told)
            row = (run["run_id"], told[0].position, run["state"], Jsonb(run))
            conn.execute(self.tables(_UPSERT, beside), row)

    def append(self, conn: Connection, run_id: str, event: NewEvent, meta: EventMeta) -> None:
        """Append to a run's stream, if that event is not there.

        In a transaction that holds the append lock.
        """
        known = self._store.read_stream(conn, stream_of(run_id))
        if not any(one.type == event.type for one in known):
            self._store.append(conn, stream_of(run_id), len(known), [event], meta)

    def exists(self, conn: Connection, run_id: str) -> bool:
        """Tell whether the run was ever asked for."""
        return self._store.version(conn, stream_of(run_id)) > 0

    def get(self, conn: Connection, run_id: str) -> dict[str, Any]:
        """Return a run as it stands. Raises RetentionRunNotFound."""
        row = conn.execute(
            "SELECT document FROM backup.retention_runs WHERE run_id = %s", (run_id,)
        ).fetchone()
        if row is None:
            raise RetentionRunNotFound(f"the rules were never asked to be applied as {run_id}")
        document: dict[str, Any] = row[0]
        return document

    def waiting(self, conn: Connection) -> list[str]:
        """Return the ids of the runs that are to be done, the oldest first."""
        rows = conn.execute(
            "SELECT run_id FROM backup.retention_runs WHERE state = 'requested' ORDER BY position"
        )
        return [str(row[0]) for row in rows]


def _fold(run_id: str, events: Iterable[StoredEvent]) -> dict[str, Any]:
    run: dict[str, Any] = {"run_id": run_id}
    for event in events:
        if event.type == ev.RETENTION_REQUESTED:
            run |= {
                "state": REQUESTED,
                "reason": event.data["reason"],
                "requested_by": event.actor,
                "requested_at": event.occurred_at.isoformat(),
                "correlation_id": event.correlation_id,
                "applied_at": None,
                "outcome": None,
                "error": None,
            }
        elif event.type == ev.RETENTION_FAILED:
            run |= {"state": FAILED, "error": event.data["error"]}
        else:
            run |= {
                "state": APPLIED,
                "applied_at": event.occurred_at.isoformat(),
                "outcome": {name: v for name, v in event.data.items() if name != "run_id"},
            }
    return run
