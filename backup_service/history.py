"""Every backup there ever was: the streams, and a read model of them in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from backup_service import events as ev
from backup_service.events import Backup, fold_backup, stream_of
from backup_service.retention.standing import counts
from shared.database import Connection, missing
from shared.errors import BackupNotFound
from shared.eventstore import EventMeta, EventStore, NewEvent, StoredEvent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS backup.backups (
    backup_id uuid PRIMARY KEY,
    requested_position bigint NOT NULL,
    state text NOT NULL,
    document jsonb NOT NULL
);
"""
_COUNTS = """
ALTER TABLE backup.backups ADD COLUMN IF NOT EXISTS counts boolean NOT NULL DEFAULT false;
CREATE INDEX backups_counting ON backup.backups (requested_position DESC) WHERE counts;
"""
_INDEXES = """
CREATE INDEX backups_requested ON backup.backups (requested_position DESC);
CREATE INDEX backups_open ON backup.backups (requested_position)
    WHERE state IN ('requested', 'running');
"""
# Backups that something is due for by itself: the end of a hold, another try of a purge.
_TENDED = "(document->'holds') <> '[]' OR (document->'purge') <> 'null' OR state = 'purging'"
_TENDED_INDEX = f"CREATE INDEX backups_tended ON backup.backups (backup_id) WHERE {_TENDED}"
# What the rules of retention look at; the rest of a document is much larger, and read once at most.
_RETAINED = (
    "SELECT to_jsonb(found) FROM backup.backups, jsonb_to_record(document) AS found ("
    "backup_id text, started_at text, requested_at text, key_state text, last_verification jsonb, "
    "rehearsal jsonb, holds jsonb, restores jsonb) WHERE state = 'created'"
)


class History:
    """The backups of one instance; every method runs in the caller's transaction."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    def migrate(self, conn: Connection) -> None:
        """Make the read model's table where it is missing."""
        conn.execute(_SCHEMA)
        # Only then: asking for them waits for whoever writes there, even if he stands still.
        if missing(conn, "backup.backups_requested"):
            conn.execute(_INDEXES)
        if missing(conn, "backup.backups_counting"):
            conn.execute(_COUNTS)
            self.rebuild(conn)
        if missing(conn, "backup.backups_tended"):
            conn.execute(_TENDED_INDEX)

    def load(self, conn: Connection, backup_id: object) -> Backup:
        """Return a backup from its events. Raises BackupNotFound."""
        backup = fold_backup(backup_id, self._store.read_stream(conn, stream_of(backup_id)))
        if backup.version == 0:
            raise BackupNotFound(f"there is no backup {backup_id}")
        return backup

    def exists(self, conn: Connection, backup_id: object) -> bool:
        """Tell whether the backup was ever requested."""
        return self._store.version(conn, stream_of(backup_id)) > 0

    def known(self, conn: Connection, backup_ids: Sequence[str]) -> set[str]:
        """Return which of ``backup_ids`` the history has."""
        rows = conn.execute(
            "SELECT backup_id FROM backup.backups WHERE backup_id = ANY(%s::uuid[])",
            (list(backup_ids),),
        )
        return {str(row[0]) for row in rows}

    def append(
        self,
        conn: Connection,
        backup_id: object,
        expected_version: int,
        events: Sequence[NewEvent],
        meta: EventMeta,
    ) -> list[StoredEvent]:
        """Append to a backup's stream and bring the read model up to it.

        Raises ConcurrencyConflict when somebody else decided first.
        """
        stored = self._store.append(conn, stream_of(backup_id), expected_version, events, meta)
        backup = fold_backup(backup_id, self._store.read_stream(conn, stream_of(backup_id)))
        conn.execute(
            "INSERT INTO backup.backups (backup_id, requested_position, state, document, counts) "
            "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (backup_id) DO UPDATE "
            "SET state = EXCLUDED.state, document = EXCLUDED.document, counts = EXCLUDED.counts",
            _row(backup, stored[0].position),
        )
        return stored

    def get(self, conn: Connection, backup_id: object) -> dict[str, Any]:
        """Return what is shown of a backup. Raises BackupNotFound."""
        row = conn.execute(
            "SELECT document FROM backup.backups WHERE backup_id = %s", (backup_id,)
        ).fetchone()
        if row is None:
            raise BackupNotFound(f"there is no backup {backup_id}")
        document: dict[str, Any] = row[0]
        return document

    def page(self, conn: Connection, limit: int, before: int | None) -> dict[str, Any]:
        """Return up to ``limit`` backups, the newest first, and where the next page begins."""
        rows = conn.execute(
            "SELECT requested_position, document FROM backup.backups "
            "WHERE %(before)s::bigint IS NULL OR requested_position < %(before)s "
            "ORDER BY requested_position DESC LIMIT %(limit)s",
            {"before": before, "limit": limit + 1},
        ).fetchall()
        page = rows[:limit]
        more = len(rows) > limit
        return {
            "backups": [document for _, document in page],
            "next_before": page[-1][0] if more else None,
        }

    def in_state(self, conn: Connection, state: str) -> list[str]:
        """Return the ids of the backups in ``state``, the oldest request first."""
        rows = conn.execute(
            "SELECT backup_id FROM backup.backups WHERE state = %s ORDER BY requested_position",
            (state,),
        )
        return [str(row[0]) for row in rows]

    def going_on(self, conn: Connection) -> str | None:
        """Return a backup that the schedule has asked for and that has not ended, or None."""
        open_ones = [*self.in_state(conn, "running"), *self.in_state(conn, "requested")]
        return next((one for one in open_ones if self.get(conn, one)["trigger"] is not None), None)

    def newest_counting(self, conn: Connection) -> dict[str, Any] | None:
        """Return the newest backup that counts."""
        row = conn.execute(
            "SELECT document FROM backup.backups WHERE counts "
            "ORDER BY requested_position DESC LIMIT 1"
        ).fetchone()
        return None if row is None else row[0]

    def newest_created(self, conn: Connection, limit: int) -> list[dict[str, Any]]:
        """Return the newest backups that came about and are there."""
        rows = conn.execute(
            "SELECT document FROM backup.backups WHERE state = 'created' "
            "ORDER BY requested_position DESC LIMIT %s",
            (limit,),
        )
        return [document for (document,) in rows]

    def retained(self, conn: Connection) -> list[dict[str, Any]]:
        """Return what retention looks at of every backup that is there."""
        return [row[0] for row in conn.execute(_RETAINED)]

    def tended(self, conn: Connection) -> list[dict[str, Any]]:
        """Return every backup that is held, or whose purge has begun and is not over."""
        rows = conn.execute(f"SELECT document FROM backup.backups WHERE {_TENDED}")
        return [row[0] for row in rows]

    def rebuild(self, conn: Connection) -> int:
        """Make the read model anew from the events; return how many backups there are."""
        conn.execute("TRUNCATE backup.backups")
        seen: dict[str, int] = {}
        after = 0
        while events := self._store.read_all(conn, after, 1000):
            after = events[-1].position
            for event in events:
                if event.type in (ev.REQUESTED, ev.ADOPTED):
                    seen[event.stream.removeprefix("backup-")] = event.position
        for backup_id, position in seen.items():
            backup = self.load(conn, backup_id)
            conn.execute(
                "INSERT INTO backup.backups VALUES (%s, %s, %s, %s, %s)", _row(backup, position)
            )
        return len(seen)


def _row(backup: Backup, position: int) -> tuple[Any, ...]:
    shown = backup.as_json()
    return backup.backup_id, position, backup.state, Jsonb(shown), counts(shown)
