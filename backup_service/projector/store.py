"""The projector's side of the store: every write is guarded by the row ``log_position``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Self
from uuid import UUID

from psycopg import sql

from backup_service.projector.faults import StoreMoved
from shared.database import Connection, Lock, lock_transaction
from shared.errors import ConcurrencyConflict
from shared.instance.fold import BatchResult, LoggedEvent
from shared.instance.history import Fence
from shared.instance.migrate import migrate
from shared.instance.position import (
    LogPosition,
    first_position,
    lock_position,
    read_position,
    write_position,
)
from shared.instance.store import apply_batch
from shared.instance.tables import LOG_POSITION
from shared.instance.workingset import TABLES
from shared.kafka import LogIdentity

SCHEMA: Final = "instance"


@dataclass
class Advance:
    """Where the position goes: the next offset, the last event, and what was passed over."""

    next_offset: int
    last: tuple[int, UUID] | None = None
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class _Step:
    """A transaction with the row locked: as it was found, and as it is to be."""

    found: LogPosition
    then: LogPosition


class Store:
    """One connection, and the position at which this session believes the store to be."""

    def __init__(self, conn: Connection, position: LogPosition) -> None:
        self._conn = conn
        self.position = position

    @classmethod
    def open(cls, conn: Connection, log: LogIdentity, position_role: str | None = None) -> Self:
        """Migrate the schema and read the position.

        A schema that was made just now begins at offset 0 of ``log``; one that was there keeps
        its position. ``position_role`` may update the row from now on. Raises LogLost for a schema
        that has no position.
        """
        with conn.transaction():
            lock_transaction(conn, Lock.MIGRATION)
            if migrate(conn, SCHEMA) == 0:
                write_position(conn, first_position(log.cluster_id, log.topic_id), SCHEMA)
            if position_role is not None:
                _let_update(conn, position_role)
        return cls(conn, read_position(conn, SCHEMA))

    def look(self) -> LogPosition:
        """Read the row as it is now; the session's own position does not change."""
        return read_position(self._conn, SCHEMA)

    def apply(self, events: Sequence[LoggedEvent], advance: Advance) -> BatchResult:
        """Store the rows of ``events`` and the next position in one transaction.

        Raises StoreMoved when the row is not where the events were read for.
        """
        result = BatchResult()
        with self._guarded() as step:
            if events:
                result = apply_batch(self._conn, SCHEMA, events, step.found.epoch)
            advance.skipped.update(result.skipped)
            step.then = _moved(step.found, advance)
        return result

    def raise_fence(self, fence: Fence, advance: Advance) -> None:
        """Record the open fence. Raises StoreMoved."""
        with self._guarded() as step:
            step.then = replace(
                _moved(step.found, advance),
                fence_no=fence.fence_no,
                fence_restore_id=fence.restore_id,
                fence_offset=fence.offset,
                highest_fence_no=fence.fence_no,
            )

    def lower_fence(self, highest_fence_no: int, advance: Advance | None = None) -> None:
        """Close the fence: at the position as it is, or with what stands behind it passed over.

        ``highest_fence_no`` is the highest number seen, behind the fence too. Raises StoreMoved.
        """
        with self._guarded() as step:
            moved = step.found if advance is None else _moved(step.found, advance)
            step.then = replace(
                moved,
                fence_no=None,
                fence_restore_id=None,
                fence_offset=None,
                highest_fence_no=max(highest_fence_no, moved.highest_fence_no),
            )

    def rebuild(
        self,
        fill: Callable[[Connection, str], object],
        advance: Advance,
        *,
        epoch: int,
        highest_fence_no: int,
    ) -> None:
        """Replace every row by what ``fill`` makes, and close the fence behind it; all or nothing.

        Deleted, not truncated: whoever reads meanwhile sees the rows as they were. Raises
        StoreMoved, and what ``fill`` raises.
        """
        with self._guarded() as step:
            for table in reversed(TABLES):
                self._conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(SCHEMA, table)))
            fill(self._conn, SCHEMA)
            step.then = replace(
                _moved(step.found, advance),
                epoch=epoch,
                fence_no=None,
                fence_restore_id=None,
                fence_offset=None,
                highest_fence_no=max(highest_fence_no, step.found.highest_fence_no),
            )

    @contextmanager
    def _guarded(self) -> Iterator[_Step]:
        with self._conn.transaction():
            try:
                found = lock_position(self._conn, self.position, SCHEMA)
            except ConcurrencyConflict as error:
                raise StoreMoved from error
            step = _Step(found, found)
            yield step
            write_position(self._conn, step.then, SCHEMA)
        self.position = step.then


def _let_update(conn: Connection, role: str) -> None:
    """Give ``role`` the right to update the row, once; a restore carries it over."""
    table = sql.Identifier(SCHEMA, LOG_POSITION)
    row = conn.execute(
        "SELECT has_table_privilege(%s, %s, 'UPDATE')", (role, f"{SCHEMA}.{LOG_POSITION}")
    ).fetchone()
    if row is not None and not row[0]:
        conn.execute(sql.SQL("GRANT UPDATE ON {} TO {}").format(table, sql.Identifier(role)))


def _moved(found: LogPosition, advance: Advance) -> LogPosition:
    skipped = Counter(found.skipped)
    skipped.update(advance.skipped)
    moved = replace(found, position=advance.next_offset, skipped=dict(skipped))
    if advance.last is not None:
        offset, event_id = advance.last
        moved = replace(moved, last_offset=offset, last_event_id=event_id)
    return moved
