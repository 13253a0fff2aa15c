"""The list of operations: a fold of the service's own events and of what restore_service told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from backup_service.operations.fold import ENDED, Change, change_of, where_to_look
from backup_service.operations.query import (
    ChangesQuery,
    OperationsQuery,
    changes_of,
    cursor_behind,
    page_of,
)
from backup_service.readmodel import ReadModel
from shared.database import Connection
from shared.eventstore import StoredEvent

_ROWS = """
CREATE TABLE {0} (
    operation_id text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL,
    changed bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    subject_type text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    code text,
    reason text,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    correlation_id text NOT NULL,
    details jsonb NOT NULL
);
"""
_INDEXES = """
CREATE INDEX ON {0} (started_at, position);
CREATE INDEX ON {0} (changed);
CREATE INDEX ON {0} (subject, started_at);
CREATE INDEX ON {0} (kind, started_at, position);
CREATE INDEX ON {0} (outcome, started_at, position);
CREATE INDEX ON {0} (actor, started_at, position);
"""
# A second copy of an event, and an earlier one, change nothing.
_UPSERT = """
INSERT INTO {0} AS present (operation_id, position, changed, kind, actor, subject_type, subject,
    outcome, code, reason, started_at, ended_at, correlation_id, details)
VALUES (%(operation_id)s, %(position)s, %(position)s, coalesce(%(kind)s, %(subject_type)s),
    %(actor)s, %(subject_type)s, %(subject)s, %(outcome)s, %(code)s, %(reason)s, %(at)s,
    %(ended_at)s, %(correlation_id)s, %(details)s)
ON CONFLICT (operation_id) DO UPDATE SET
    changed = EXCLUDED.changed,
    kind = coalesce(%(kind)s, present.kind),
    outcome = EXCLUDED.outcome,
    code = EXCLUDED.code,
    reason = coalesce(present.reason, EXCLUDED.reason),
    ended_at = EXCLUDED.ended_at,
    details = present.details || EXCLUDED.details
WHERE present.changed < EXCLUDED.changed
"""


class Operations(ReadModel):
    """Every operation, who did it, on what, and how it ended; in the caller's transaction."""

    NAME = "operations"
    LAYOUT = 1
    TABLES = ("operations",)
    SCHEMA = _ROWS
    INDEXES = _INDEXES

    def apply(self, conn: Connection, events: Sequence[StoredEvent], beside: str = "") -> None:
        """Fold ``events``, in the order of their positions, into the list."""
        rows = [
            _row(event, change)
            for event in events
            if (change := change_of(event)) is not None
        ]  # fmt: skip
        if rows:
            with conn.cursor() as cursor:
                cursor.executemany(self.tables(_UPSERT, beside), rows)

    def page(self, conn: Connection, query: OperationsQuery) -> dict[str, Any]:
        """Return the operations that ``query`` asks for, the newest first.

        ``position`` is where to follow the changes from: none is missed between the two.
        """
        position = self.position(conn)
        rows = self._read(conn, *page_of(query))
        page = rows[: query.limit]
        return {
            "operations": [_shown(operation) for operation in page],
            "next_cursor": cursor_behind(page[-1]) if len(rows) > query.limit else None,
            "position": position,
        }

    @staticmethod
    def position(conn: Connection) -> int:
        """Return the position of the last change."""
        row = conn.execute("SELECT coalesce(max(changed), 0) FROM backup.operations").fetchone()
        return int(row[0]) if row else 0

    def changes(self, conn: Connection, query: ChangesQuery) -> dict[str, Any]:
        """Return what changed behind position ``after``, each operation once, as it stands."""
        rows = self._read(conn, *changes_of(query))
        return {
            "operations": [_shown(operation) for operation in rows],
            "position": rows[-1]["changed"] if rows else query.after,
        }

    @staticmethod
    def actors(conn: Connection, subjects: Sequence[str]) -> dict[str, str]:
        """Return who asked for each of the restores and rehearsals that the list has."""
        rows = conn.execute(
            "SELECT subject, actor FROM backup.operations WHERE subject = ANY(%s) "
            "AND subject_type IN ('restore', 'rehearsal') ORDER BY started_at DESC",
            (list(subjects),),
        )
        return {str(subject): str(actor) for subject, actor in rows}

    @staticmethod
    def _read(conn: Connection, statement: bytes, values: dict[str, Any]) -> list[dict[str, Any]]:
        with conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statement, values).fetchall()


def _row(event: StoredEvent, change: Change) -> dict[str, Any]:
    return {
        "operation_id": change.operation_id,
        "position": event.position,
        "kind": change.kind,
        "actor": change.actor,
        "subject_type": change.subject_type,
        "subject": change.subject,
        "outcome": change.outcome,
        "code": change.code,
        "reason": change.reason,
        "at": change.at,
        "ended_at": change.at if change.outcome in ENDED else None,
        "correlation_id": event.correlation_id,
        "details": Jsonb(dict(change.details)),
    }


def _shown(operation: dict[str, Any]) -> dict[str, Any]:
    started, ended = operation["started_at"], operation["ended_at"]
    return {
        "operation_id": operation["operation_id"],
        "kind": operation["kind"],
        "outcome": operation["outcome"],
        "code": operation["code"],
        "actor": operation["actor"],
        "subject_type": operation["subject_type"],
        "subject": operation["subject"],
        "reason": operation["reason"],
        "started_at": started.isoformat(),
        "ended_at": None if ended is None else ended.isoformat(),
        "duration_s": None if ended is None else round((ended - started).total_seconds(), 3),
        "correlation_id": operation["correlation_id"],
        "details": operation["details"],
        "where_to_look": where_to_look(operation["subject_type"], operation["subject"]),
        "position": operation["changed"],
    }
