"""Every time that the rules were to be applied: asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg.types.json import Jsonb

from backup_service import events as ev
from shared.database import Connection, missing
from shared.errors import RetentionRunNotFound
from shared.eventstore import EventMeta, EventStore, NewEvent, StoredEvent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.retention_runs (
    run_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL
);
"""
_INDEX = """
CREATE INDEX retention_waiting ON backup.retention_runs (position) WHERE state = 'requested';
"""
REQUESTED, APPLIED, FAILED = "requested", "applied", "failed"


def migrate_runs(conn: Connection) -> None:
    """Make the table where it is missing."""
    conn.execute(_SCHEMA)
    # Only then: asking for it waits for whoever writes there, even if he stands still.
    if missing(conn, "backup.retention_waiting"):
        conn.execute(_INDEX)


def stream_of(run_id: object) -> str:
    """Return the name of a run's stream."""
    return f"retention-{run_id}"


def append(
    conn: Connection, store: EventStore, run_id: str, event: NewEvent, meta: EventMeta
) -> None:
    """Append to a run's stream, if that event is not there, and bring its row up to it.

    In a transaction that holds the append lock.
    """
    known = store.read_stream(conn, stream_of(run_id))
    if any(one.type == event.type for one in known):
        return
    stored = store.append(conn, stream_of(run_id), len(known), [event], meta)
    run = _fold(run_id, [*known, *stored])
    conn.execute(
        "INSERT INTO backup.retention_runs VALUES (%s, %s, %s, %s) ON CONFLICT (run_id) "
        "DO UPDATE SET state = EXCLUDED.state, document = EXCLUDED.document",
        (run_id, stored[0].position, run["state"], Jsonb(run)),
    )


def get(conn: Connection, run_id: str) -> dict[str, Any]:
    """Return a run as it stands. Raises RetentionRunNotFound."""
    row = conn.execute(
        "SELECT document FROM backup.retention_runs WHERE run_id = %s", (run_id,)
    ).fetchone()
    if row is None:
        raise RetentionRunNotFound(f"the rules were never asked to be applied as {run_id}")
    document: dict[str, Any] = row[0]
    return document


def waiting(conn: Connection) -> list[str]:
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
