"""Every restore there ever was: the streams, and a read model of them in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from restore_service.events import ENDED, WAITING, Restore, fold_restore, stream_of
from shared.database import Connection, missing
from shared.errors import RestoreNotFound
from shared.eventstore import EventMeta, EventStore, NewEvent, StoredEvent
from shared.messages.topics import INSTANCE_EVENTS, RESTORE_EVENTS

_SCHEMA = """
CREATE TABLE IF NOT EXISTS restore.restores (
    restore_id uuid PRIMARY KEY,
    requested_position bigint NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL
);
CREATE TABLE IF NOT EXISTS restore.fences (
    fence_no bigint PRIMARY KEY,
    restore_id uuid NOT NULL UNIQUE
);
"""
_NAMES = frozenset({"requested_by", "approved_by"})
_INDEX = "CREATE INDEX restores_requested ON restore.restores (requested_position DESC)"


class History:
    """The restores of one place; every method runs in the caller's transaction."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def migrate(self, conn: Connection) -> None:
        """Make the tables where they are missing."""
        conn.execute(_SCHEMA)
        # Only then: asking for it waits for whoever writes there, even if he stands still.
        if missing(conn, "restore.restores_requested"):
            conn.execute(_INDEX)

    def load(self, conn: Connection, restore_id: object) -> Restore:
        """Return a restore from its events. Raises RestoreNotFound."""
        restore = self._fold(conn, restore_id)
        if restore.version == 0:
            raise RestoreNotFound(f"there is no restore {restore_id}")
        return restore

    def _fold(self, conn: Connection, restore_id: object) -> Restore:
        return fold_restore(restore_id, self._store.read_stream(conn, stream_of(restore_id)))

    def exists(self, conn: Connection, restore_id: object) -> bool:
        """Tell whether the restore was ever requested."""
        return self._store.version(conn, stream_of(restore_id)) > 0

    def append(
        self,
        conn: Connection,
        restore_id: object,
        expected_version: int,
        events: Sequence[NewEvent],
        meta: EventMeta,
    ) -> list[StoredEvent]:
        """Append to a restore's stream and bring the read model up to it.

        Of a restore that was approved each of our events names both persons.

        Raises ConcurrencyConflict when somebody else decided first.
        """
        names = self._fold(conn, restore_id).names
        named = [_naming(event, names) for event in events]
        stored = self._store.append(conn, stream_of(restore_id), expected_version, named, meta)
        restore = self._fold(conn, restore_id)
        conn.execute(
            "INSERT INTO restore.restores (restore_id, requested_position, state, document) "
            "VALUES (%s, %s, %s, %s) ON CONFLICT (restore_id) "
            "DO UPDATE SET state = EXCLUDED.state, document = EXCLUDED.document",
            (restore.restore_id, stored[0].position, restore.state, Jsonb(restore.as_json())),
        )
        return stored

    def get(self, conn: Connection, restore_id: object) -> dict[str, Any]:
        """Return what is shown of a restore. Raises RestoreNotFound."""
        row = conn.execute(
            "SELECT document FROM restore.restores WHERE restore_id = %s", (restore_id,)
        ).fetchone()
        if row is None:
            raise RestoreNotFound(f"there is no restore {restore_id}")
        document: dict[str, Any] = row[0]
        return document

    def page(self, conn: Connection, limit: int, before: int | None = None) -> dict[str, Any]:
        """Return up to ``limit`` restores, the newest first; without their voided events.

        ``before`` and ``next_before`` are where a page begins.
        """
        rows = conn.execute(
            "SELECT requested_position, document #- '{voided,events}' FROM restore.restores "
            "WHERE %(before)s::bigint IS NULL OR requested_position < %(before)s "
            "ORDER BY requested_position DESC LIMIT %(limit)s",
            {"before": before, "limit": limit + 1},
        ).fetchall()
        page = rows[:limit]
        more = len(rows) > limit
        return {
            "restores": [document for _, document in page],
            "next_before": page[-1][0] if more else None,
        }

    def open_ids(self, conn: Connection) -> list[str]:
        """Return the ids of the restores that are to run, or do, and have not ended."""
        rows = conn.execute(
            "SELECT restore_id FROM restore.restores WHERE NOT state = ANY(%s) "
            "ORDER BY requested_position",
            (sorted(ENDED | WAITING),),
        )
        return [str(row[0]) for row in rows]

    def waiting_ids(self, conn: Connection) -> list[str]:
        """Return the ids of the restores that wait for an approval, or for their start."""
        rows = conn.execute(
            "SELECT restore_id FROM restore.restores WHERE state = ANY(%s) "
            "ORDER BY requested_position",
            (sorted(WAITING),),
        )
        return [str(row[0]) for row in rows]

    def last_restored(self, conn: Connection) -> Restore | None:
        """Return the restore, or the undo, that made the present state; None before the first."""
        row = conn.execute(
            "SELECT restore_id FROM restore.restores WHERE state = 'restored' "
            "ORDER BY (document->>'epoch')::bigint DESC LIMIT 1"
        ).fetchone()
        return None if row is None else self.load(conn, row[0])

    def known(self, conn: Connection, ids: Sequence[UUID]) -> list[str]:
        """Return those of ``ids`` that ended in restored."""
        rows = conn.execute(
            "SELECT restore_id FROM restore.restores WHERE restore_id = ANY(%s) "
            "AND state = 'restored'",
            (list(ids),),
        )
        return [str(row[0]) for row in rows]

    def next_fence_no(self, conn: Connection, restore_id: str, highest_seen: int) -> int:
        """Draw a fence number that was never used and is above every one seen on the log."""
        row = conn.execute(
            "INSERT INTO restore.fences (fence_no, restore_id) "
            "SELECT greatest(coalesce(max(fence_no), 0), %s) + 1, %s FROM restore.fences "
            "RETURNING fence_no",
            (highest_seen, restore_id),
        ).fetchone()
        assert row is not None
        return int(row[0])


def _naming(event: NewEvent, names: dict[str, str]) -> NewEvent:
    """Give an event of ours, on either topic, the names of both; without them it has no such field."""
    data = event.data
    if event.topic == INSTANCE_EVENTS:
        data = {name: value for name, value in data.items() if name not in _NAMES or value}
    elif event.topic != RESTORE_EVENTS:
        return event
    return replace(event, data={**data, **names})
