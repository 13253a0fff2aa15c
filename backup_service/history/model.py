"""The history: the backups' streams, and a read model of them in the same transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from backup_service.events import BACKUP_STREAM, Backup, fold_backup, stream_of
from backup_service.history.query import HistoryQuery, order_of, statement_of
from backup_service.history.row import COLUMNS, row_of
from backup_service.readmodel import BATCH, OnProgress, ReadModel, nobody_looks
from shared.database import Connection
from shared.errors import BackupNotFound
from shared.eventstore import EventMeta, NewEvent, StoredEvent

# A row to search by is narrow: 100,000 of them are read through in some 20 ms, whatever is asked.
_ROWS = """
CREATE TABLE {0} (
    backup_id uuid PRIMARY KEY,
    requested_position bigint NOT NULL,
    requested_at timestamptz NOT NULL,
    requested_by text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    key_state text COLLATE "C",
    reason text COLLATE "C" NOT NULL,
    log_offset bigint,
    size_bytes bigint,
    duration_s double precision,
    proven boolean NOT NULL,
    proven_at timestamptz,
    verified_at timestamptz,
    rehearsed_at timestamptz,
    held boolean NOT NULL,
    counts boolean NOT NULL,
    tended boolean NOT NULL,
    purged_at timestamptz,
    receipt_intact boolean
);
CREATE TABLE {1} (
    backup_id uuid PRIMARY KEY,
    document jsonb NOT NULL
);
"""
# Of the very expressions that the orders of a query are of.
_INDEXES = """
CREATE INDEX ON {0} (requested_position) WHERE counts;
CREATE INDEX ON {0} (requested_position) WHERE tended;
CREATE INDEX ON {0} (state, requested_position);
CREATE INDEX ON {0} (requested_at, requested_position);
CREATE INDEX ON {0} (requested_by, requested_position);
CREATE INDEX ON {0} ((coalesce(key_state, '')), requested_position);
CREATE INDEX ON {0} ((coalesce(log_offset, -1)), requested_position);
CREATE INDEX ON {0} ((coalesce(size_bytes, -1)), requested_position);
CREATE INDEX ON {0} ((coalesce(duration_s, -1)), requested_position);
CREATE INDEX ON {0} ((coalesce(proven_at, '-infinity')), requested_position);
CREATE INDEX ON {0} ((coalesce(verified_at, '-infinity')), requested_position);
CREATE INDEX ON {0} ((coalesce(rehearsed_at, '-infinity')), requested_position);
CREATE INDEX ON {0} ((coalesce(purged_at, '-infinity')), requested_position);
"""


# What the rules of retention look at; the rest of a document is much larger, and read once at most.
_RETAINED = (
    "SELECT to_jsonb(found) FROM backup.backups "
    "JOIN backup.backup_documents USING (backup_id), jsonb_to_record(document) AS found ("
    "backup_id text, started_at text, requested_at text, key_state text, last_verification jsonb, "
    "rehearsal jsonb, holds jsonb, restores jsonb) WHERE state = 'created'"
)

# A backup, and the position of its first event.
_Folded = tuple[Backup, int]


def _folded(stream: Sequence[StoredEvent]) -> _Folded:
    backup_id = stream[0].stream.removeprefix(BACKUP_STREAM)
    return fold_backup(backup_id, stream), stream[0].position


class History(ReadModel):
    """The backups of one instance; every method runs in the caller's transaction."""

    NAME = "history"
    LAYOUT = 2
    TABLES = ("backups", "backup_documents")
    SCHEMA = _ROWS
    INDEXES = _INDEXES

    def apply(self, conn: Connection, events: Sequence[StoredEvent], beside: str = "") -> None:
        """Bring the rows of the backups that ``events`` are of up to their streams."""
        changed = {event.stream for event in events if event.stream.startswith(BACKUP_STREAM)}
        for stream in sorted(changed):
            self._put(conn, [_folded(self._store.read_stream(conn, stream))], beside)

    def fill(
        self, conn: Connection, beside: str = "", on_progress: OnProgress = nobody_looks
    ) -> int:
        """Fold every stream once, from its beginning; of one stream all is held at a time."""
        position, done = self._store.end(conn), 0
        waiting: list[_Folded] = []
        events = self._store.read_streams(conn, BACKUP_STREAM)
        for _, stream in itertools.groupby(events, key=lambda event: event.stream):
            history = list(stream)
            waiting.append(_folded(history))
            done += len(history)
            if len(waiting) == BATCH:
                self._put(conn, waiting, beside)
                waiting = []
                on_progress(done, position)
        self._put(conn, waiting, beside)
        on_progress(done, position)
        return position

    def _put(self, conn: Connection, folded: Sequence[_Folded], beside: str) -> None:
        with conn.cursor() as cursor:
            rows = [row_of(backup, position) for backup, position in folded]
            cursor.executemany(self.tables(_UPSERT_ROW, beside), rows)
            documents = [(backup.backup_id, Jsonb(backup.as_json())) for backup, _ in folded]
            cursor.executemany(self.tables(_UPSERT_DOCUMENT, beside), documents)

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

    def key_facts(self, conn: Connection, backup_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what became of the keys of those of ``backup_ids`` that have one."""
        rows = conn.execute(
            "SELECT backup_id, key_state, document ->> 'key_viewed_by', "
            "document ->> 'key_viewed_at', document ->> 'key_expires_at' "
            "FROM backup.backups JOIN backup.backup_documents USING (backup_id) "
            "WHERE backup_id = ANY(%s::uuid[]) AND key_state IS NOT NULL",
            (list(backup_ids),),
        )
        names = ("key_state", "key_viewed_by", "key_viewed_at", "key_expires_at")
        return {str(row[0]): dict(zip(names, row[1:], strict=True)) for row in rows}

    def append(
        self,
        conn: Connection,
        backup_id: object,
        expected_version: int,
        events: Sequence[NewEvent],
        meta: EventMeta,
    ) -> list[StoredEvent]:
        """Append to a backup's stream. Raises ConcurrencyConflict when somebody decided first."""
        return self._store.append(conn, stream_of(backup_id), expected_version, events, meta)

    def get(self, conn: Connection, backup_id: object) -> dict[str, Any]:
        """Return what is shown of a backup. Raises BackupNotFound."""
        row = conn.execute(
            "SELECT document FROM backup.backup_documents WHERE backup_id = %s", (backup_id,)
        ).fetchone()
        if row is None:
            raise BackupNotFound(f"there is no backup {backup_id}")
        document: dict[str, Any] = row[0]
        return document

    def page(self, conn: Connection, query: HistoryQuery) -> dict[str, Any]:
        """Return the backups that ``query`` asks for, and the cursor of the next page."""
        statement, values = statement_of(query)
        rows = conn.execute(statement, values).fetchall()
        page = rows[: query.limit]
        following = order_of(query).cursor(*page[-1][:2]) if len(rows) > query.limit else None
        return {"backups": [document for _, _, document in page], "next_cursor": following}

    def going_on(self, conn: Connection) -> str | None:
        """Return a backup that the schedule has asked for and that has not ended, or None."""
        open_ones = [*self.in_state(conn, "running"), *self.in_state(conn, "requested")]
        return next((one for one in open_ones if self.get(conn, one)["trigger"] is not None), None)

    def newest_counting(self, conn: Connection) -> dict[str, Any] | None:
        """Return the newest backup that counts."""
        row = conn.execute(
            "SELECT backup_id FROM backup.backups WHERE counts "
            "ORDER BY requested_position DESC LIMIT 1"
        ).fetchone()
        return None if row is None else self.get(conn, row[0])

    def newest_created(self, conn: Connection, limit: int) -> list[dict[str, Any]]:
        """Return the newest backups that came about and are there."""
        rows = conn.execute(
            "SELECT document FROM backup.backups JOIN backup.backup_documents USING (backup_id) "
            "WHERE state = 'created' ORDER BY requested_position DESC LIMIT %s",
            (limit,),
        )
        return [document for (document,) in rows]

    def retained(self, conn: Connection) -> list[dict[str, Any]]:
        """Return what retention looks at of every backup that is there."""
        return [row[0] for row in conn.execute(_RETAINED)]

    def tended(self, conn: Connection) -> list[dict[str, Any]]:
        """Return every backup that is held, or whose purge has begun and is not over."""
        rows = conn.execute(
            "SELECT document FROM backup.backups JOIN backup.backup_documents USING (backup_id) "
            "WHERE tended ORDER BY requested_position"
        )
        return [row[0] for row in rows]

    def refused_purges(self, conn: Connection) -> int:
        """Return of how many backups the storage refused the deletion that was last tried."""
        row = conn.execute(
            "SELECT count(*) FROM backup.backups JOIN backup.backup_documents USING (backup_id) "
            "WHERE tended AND document #>> '{purge,error}' IS NOT NULL"
        ).fetchone()
        return int(row[0]) if row else 0

    def in_state(self, conn: Connection, state: str) -> list[str]:
        """Return the ids of the backups in ``state``, the oldest request first."""
        rows = conn.execute(
            "SELECT backup_id FROM backup.backups WHERE state = %s ORDER BY requested_position",
            (state,),
        )
        return [str(row[0]) for row in rows]


def all_pages(
    history: History, connection: Any, query: HistoryQuery
) -> Iterator[list[dict[str, Any]]]:
    """Yield page after page to the end, each in a transaction of its own.

    However slowly they are taken, no transaction stays open, and a page is all that is held.
    """
    while True:
        with connection() as conn:
            page = history.page(conn, query)
        yield page["backups"]
        if page["next_cursor"] is None:
            return
        query = query.model_copy(update={"cursor": page["next_cursor"]})


_UPSERT_ROW = (
    "INSERT INTO {0} (" + ", ".join(COLUMNS) + ") VALUES ("
    + ", ".join(f"%({name})s" for name in COLUMNS)
    + ") ON CONFLICT (backup_id) DO UPDATE SET "
    + ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS[1:])
)  # fmt: skip
_UPSERT_DOCUMENT = (
    "INSERT INTO {1} (backup_id, document) VALUES (%s, %s) "
    "ON CONFLICT (backup_id) DO UPDATE SET document = EXCLUDED.document"
)
