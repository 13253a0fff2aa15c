"""The guarded row ``log_position``: how far the store is, in which epoch, behind which fence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.errors import ConcurrencyConflict, LogLost

_COLUMNS = (
    "cluster_id, topic_id, position, last_offset, last_event_id, epoch, "
    "fence_no, fence_restore_id, fence_offset, highest_fence_no, adoption_id, skipped"
)
_NAMES = _COLUMNS.split(", ")


@dataclass(frozen=True)
class LogPosition:
    """The row: ``position`` is the next offset to read (transaction markers counted).

    ``last_offset`` and ``last_event_id`` are of the last event that was folded or skipped.
    ``adoption_id`` names the log adoption that the state rests on, if any. An open fence has ``fence_no``, ``fence_restore_id`` and ``fence_offset``; none has None.
    """

    cluster_id: str | None
    topic_id: str | None
    position: int
    last_offset: int | None
    last_event_id: UUID | None
    epoch: int
    fence_no: int | None
    fence_restore_id: UUID | None
    fence_offset: int | None
    highest_fence_no: int
    skipped: dict[str, int]
    adoption_id: UUID | None = None

    @property
    def fenced(self) -> bool:
        """Tell whether a fence is open."""
        return self.fence_no is not None

    def lowered(self) -> LogPosition:
        """Return the row without its fence; the fence's number stays spent."""
        return replace(
            self,
            fence_no=None,
            fence_restore_id=None,
            fence_offset=None,
            highest_fence_no=max(self.highest_fence_no, self.fence_no or 0),
        )

    def same_place(self, other: LogPosition) -> bool:
        """Tell whether what was read for ``other`` may be written at this position."""
        return (
            self.position == other.position
            and self.epoch == other.epoch
            and self.fence_no == other.fence_no
            and self.topic_id == other.topic_id
            and self.cluster_id == other.cluster_id
        )


_MADE_BY = "The projector makes it when it starts; `secryn status` shows whether it runs."


def read_position(
    conn: psycopg.Connection[Any], schema: str = "instance", *, lock: bool = False
) -> LogPosition:
    """Return the row, locked FOR UPDATE if asked. Raises LogLost when the store has none.

    A service may be there before the projector has made the schema, and comes back to it later.
    """
    query = sql.SQL("SELECT {} FROM {}{}").format(
        sql.SQL(_COLUMNS),
        sql.Identifier(schema, "log_position"),
        sql.SQL(" FOR UPDATE" if lock else ""),
    )
    with conn.cursor(row_factory=dict_row) as cursor:
        try:
            row = cursor.execute(query).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise LogLost("the store has no schema yet", hint=_MADE_BY) from error
    if row is None:
        raise LogLost("the store has no position: it was never connected to a log")
    return LogPosition(**row)


def lock_position(
    conn: psycopg.Connection[Any], expected: LogPosition, schema: str = "instance"
) -> LogPosition:
    """Lock the row and return it if it is still at ``expected``.

    Every transaction of the projector begins here: one that was paused across a cut-over finds
    another position, epoch or fence and rolls back.

    Raises ConcurrencyConflict when the row moved.
    """
    found = read_position(conn, schema, lock=True)
    if not found.same_place(expected):
        raise ConcurrencyConflict("the log position is not where this batch was read for")
    return found


def write_position(
    conn: psycopg.Connection[Any], position: LogPosition, schema: str = "instance"
) -> None:
    """Replace the row; the caller holds it locked, or owns a staging schema alone."""
    values = _values(position)
    conn.execute(
        sql.SQL(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (one_row) DO UPDATE SET ({}) = ({})"
        ).format(
            sql.Identifier(schema, "log_position"),
            sql.SQL(_COLUMNS),
            sql.SQL(", ").join([sql.Placeholder()] * len(values)),
            sql.SQL(_COLUMNS),
            sql.SQL(", ").join(sql.SQL("EXCLUDED.{}").format(sql.Identifier(n)) for n in _NAMES),
        ),
        values,
    )


def update_position(
    conn: psycopg.Connection[Any], position: LogPosition, schema: str = "instance"
) -> None:
    """Change the row that is there, as a role that may update it and nothing else.

    The caller holds it locked.
    """
    values = _values(position)
    conn.execute(
        sql.SQL("UPDATE {} SET ({}) = ({})").format(
            sql.Identifier(schema, "log_position"),
            sql.SQL(_COLUMNS),
            sql.SQL(", ").join([sql.Placeholder()] * len(values)),
        ),
        values,
    )


def _values(position: LogPosition) -> list[Any]:
    return [getattr(position, name) for name in _NAMES[:-1]] + [Jsonb(position.skipped)]


def first_position(cluster_id: str, topic_id: str) -> LogPosition:
    """Return the row of a store that has read nothing of its log yet."""
    return LogPosition(
        cluster_id=cluster_id,
        topic_id=topic_id,
        position=0,
        last_offset=None,
        last_event_id=None,
        epoch=1,
        fence_no=None,
        fence_restore_id=None,
        fence_offset=None,
        highest_fence_no=0,
        skipped={},
    )
