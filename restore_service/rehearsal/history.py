"""Every rehearsal there ever was: the streams, and a read model of them in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from restore_service.rehearsal.events import (
    ENDED,
    RESTORABLE,
    Rehearsal,
    fold_rehearsal,
    stream_of,
)
from shared.database import Connection
from shared.errors import RehearsalNotFound
from shared.eventstore import EventMeta, EventStore, NewEvent, StoredEvent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS restore.rehearsals (
    rehearsal_id uuid PRIMARY KEY,
    requested_position bigint NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS rehearsals_requested ON restore.rehearsals (requested_position DESC);
"""


class RehearsalHistory:
    """The rehearsals of one place; every method runs in the caller's transaction."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def migrate(self, conn: Connection) -> None:
        """Make the table where it is missing."""
        conn.execute(_SCHEMA)

    def load(self, conn: Connection, rehearsal_id: object) -> Rehearsal:
        """Return a rehearsal from its events. Raises RehearsalNotFound."""
        stream = self._store.read_stream(conn, stream_of(rehearsal_id))
        rehearsal = fold_rehearsal(rehearsal_id, stream)
        if rehearsal.version == 0:
            raise RehearsalNotFound(f"there is no rehearsal {rehearsal_id}")
        return rehearsal

    def exists(self, conn: Connection, rehearsal_id: object) -> bool:
        """Tell whether the rehearsal was ever requested."""
        return self._store.version(conn, stream_of(rehearsal_id)) > 0

    def append(
        self,
        conn: Connection,
        rehearsal_id: object,
        expected_version: int,
        events: Sequence[NewEvent],
        meta: EventMeta,
    ) -> list[StoredEvent]:
        """Append to a rehearsal's stream and bring the read model up to it.

        Raises ConcurrencyConflict when somebody else decided first.
        """
        stream = stream_of(rehearsal_id)
        stored = self._store.append(conn, stream, expected_version, events, meta)
        rehearsal = fold_rehearsal(rehearsal_id, self._store.read_stream(conn, stream))
        conn.execute(
            "INSERT INTO restore.rehearsals (rehearsal_id, requested_position, state, document) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT (rehearsal_id) "
            "DO UPDATE SET state = EXCLUDED.state, document = EXCLUDED.document",
            (
                rehearsal.rehearsal_id,
                stored[0].position,
                rehearsal.state,
                Jsonb(rehearsal.as_json()),
            ),
        )
        return stored

    def get(self, conn: Connection, rehearsal_id: object) -> dict[str, Any]:
        """Return what is shown of a rehearsal. Raises RehearsalNotFound."""
        row = conn.execute(
            "SELECT document FROM restore.rehearsals WHERE rehearsal_id = %s", (rehearsal_id,)
        ).fetchone()
        if row is None:
            raise RehearsalNotFound(f"there is no rehearsal {rehearsal_id}")
        document: dict[str, Any] = row[0]
        return document

    def page(self, conn: Connection, limit: int, before: int | None = None) -> dict[str, Any]:
        """Return up to ``limit`` rehearsals, the newest first.

        ``before`` and ``next_before`` are where a page begins.
        """
        rows = conn.execute(
            "SELECT requested_position, document FROM restore.rehearsals "
            "WHERE %(before)s::bigint IS NULL OR requested_position < %(before)s "
            "ORDER BY requested_position DESC LIMIT %(limit)s",
            {"before": before, "limit": limit + 1},
        ).fetchall()
        page = rows[:limit]
        more = len(rows) > limit
        return {
            "rehearsals": [document for _, document in page],
            "next_before": page[-1][0] if more else None,
        }

    def last_restorable(self, conn: Connection) -> dict[str, Any] | None:
        """Return the last rehearsal that found all that was compared equal."""
        row = conn.execute(
            "SELECT document FROM restore.rehearsals "
            "WHERE state = 'rehearsed' AND document->>'outcome' = %s "
            "ORDER BY requested_position DESC LIMIT 1",
            (RESTORABLE,),
        ).fetchone()
        return None if row is None else row[0]

    def open_ids(self, conn: Connection) -> list[str]:
        """Return the ids of the rehearsals that have not ended."""
        rows = conn.execute(
            "SELECT rehearsal_id FROM restore.rehearsals WHERE NOT state = ANY(%s) "
            "ORDER BY requested_position",
            (sorted(ENDED),),
        )
        return [str(row[0]) for row in rows]
