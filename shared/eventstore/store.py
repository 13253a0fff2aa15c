"""The event store of one service, in a schema of PostgreSQL; its table is also the outbox.

An append happens in the caller's transaction, at the stream's expected version. It takes an
advisory lock before it draws a position: positions become visible in their order, so that a relay
that reads by position passes nothing that commits late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg import errors, sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from shared.clock import SYSTEM_CLOCK, Clock
from shared.database import Connection, Lock, lock_transaction
from shared.errors import ConcurrencyConflict

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    event_id uuid NOT NULL UNIQUE,
    occurred_at timestamptz NOT NULL,
    actor text NOT NULL,
    correlation_id text NOT NULL,
    causation_id text NOT NULL,
    topic text,
    extensions jsonb NOT NULL,
    UNIQUE (stream, version)
);
CREATE TABLE IF NOT EXISTS {schema}.relay (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    position bigint NOT NULL
);
INSERT INTO {schema}.relay (position) VALUES (0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS {schema}.deliveries (
    position bigint PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    topic text NOT NULL,
    kafka_offset bigint NOT NULL
);
"""
_COLUMNS = (
    "position, stream, version, type, data, event_id, occurred_at, actor, correlation_id, "
    "causation_id, topic, extensions"
)


@dataclass(frozen=True)
class NewEvent:
    """An event to be appended. With a ``topic`` (unprefixed) it is published there, too."""

    type: str
    data: Mapping[str, Any]
    topic: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    event_id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True)
class EventMeta:
    """Who caused events, and by what."""

    actor: str
    correlation_id: str
    causation_id: str = ""


@dataclass(frozen=True, eq=False)
class StoredEvent:
    """An event as it was appended."""

    position: int
    stream: str
    version: int
    type: str
    data: dict[str, Any]
    event_id: UUID
    occurred_at: datetime
    actor: str
    correlation_id: str
    causation_id: str
    topic: str | None
    extensions: dict[str, str]


# How a read model is fed.
Feed = Callable[[Connection, Sequence[StoredEvent]], None]


@dataclass(frozen=True)
class Delivery:
    """Where a published event stands; ``topic`` is the full name."""

    topic: str
    offset: int


class EventStore:
    """The events of the service whose schema is ``schema``."""

    def __init__(self, schema: str, append_lock: Lock, clock: Clock = SYSTEM_CLOCK) -> None:
        self.schema = schema
        self._append_lock = append_lock
        self.clock = clock
        self._texts: dict[str, bytes] = {}
        self._fed: list[Feed] = []

    def _sql(self, text: LiteralString) -> bytes:
        """Return a statement for this store's schema; each is put together once."""
        if text not in self._texts:
            names = {"schema": sql.Identifier(self.schema), "columns": sql.SQL(_COLUMNS)}
            self._texts[text] = sql.SQL(text).format(**names).as_bytes()
        return self._texts[text]

    def migrate(self, conn: Connection) -> None:
        """Make the tables where they are missing; in the caller's transaction."""
        lock_transaction(conn, Lock.MIGRATION)
        conn.execute(self._sql(_SCHEMA))

    def lock_appends(self, conn: Connection) -> None:
        """Hold every other append back until the transaction ends."""
        lock_transaction(conn, self._append_lock)

    def feed(self, apply: Feed) -> None:
        """Have ``apply`` called with all that is appended, in the transaction that appends it."""
        self._fed.append(apply)

    def append(
        self,
        conn: Connection,
        stream: str,
        expected_version: int,
        events: Sequence[NewEvent],
        meta: EventMeta,
    ) -> list[StoredEvent]:
        """Append ``events`` behind version ``expected_version`` (0: the stream is new).

        In the caller's transaction: it commits together with everything that must agree with
        it. Raises ConcurrencyConflict when somebody else appended first; the transaction is
        then lost.
        """
        self.lock_appends(conn)
        now = self.clock.now()
        query = self._sql(
            "INSERT INTO {schema}.events (stream, version, type, data, event_id, occurred_at, "
            "actor, correlation_id, causation_id, topic, extensions) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {columns}"
        )
        stored: list[StoredEvent] = []
        if expected_version != self.version(conn, stream):
            raise ConcurrencyConflict(f"{stream} is not at version {expected_version} any more")
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            for version, event in enumerate(events, expected_version + 1):
                row = (
                    stream, version, event.type, Jsonb(dict(event.data)), event.event_id, now,
                    meta.actor, meta.correlation_id, meta.causation_id, event.topic,
                    Jsonb(dict(event.extensions)),
                )  # fmt: skip
                try:
                    found = cursor.execute(query, row).fetchone()
                except errors.UniqueViolation as error:
                    raise _conflict(error, stream, version, event) from error
                assert found is not None
                stored.append(found)
        for apply in self._fed:
            apply(conn, stored)
        return stored

    def version(self, conn: Connection, stream: str) -> int:
        """Return the stream's version; 0 when there is none."""
        query = self._sql("SELECT max(version) FROM {schema}.events WHERE stream = %s")
        row = conn.execute(query, (stream,)).fetchone()
        return (row[0] if row else None) or 0

    def positions(self, conn: Connection, streams: Sequence[str]) -> dict[str, int]:
        """Return the position of the last event of each of ``streams`` that there is."""
        query = self._sql(
            "SELECT stream, max(position) FROM {schema}.events WHERE stream = ANY(%s) GROUP BY stream"
        )
        return dict(conn.execute(query, (list(streams),)).fetchall())

    def read_stream(self, conn: Connection, stream: str) -> list[StoredEvent]:
        """Return a stream's events in order."""
        query = self._sql(
            "SELECT {columns} FROM {schema}.events WHERE stream = %s ORDER BY version"
        )
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            return cursor.execute(query, (stream,)).fetchall()

    def read_stream_behind(
        self, conn: Connection, stream: str, version: int, limit: int
    ) -> list[StoredEvent]:
        """Return up to ``limit`` events of a stream behind ``version``, in order."""
        query = self._sql(
            "SELECT {columns} FROM {schema}.events WHERE stream = %s AND version > %s "
            "ORDER BY version LIMIT %s"
        )
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            return cursor.execute(query, (stream, version, limit)).fetchall()

    def find(self, conn: Connection, event_id: UUID) -> StoredEvent | None:
        """Return the event with that id, or None: was this done before?"""
        query = self._sql("SELECT {columns} FROM {schema}.events WHERE event_id = %s")
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            return cursor.execute(query, (event_id,)).fetchone()

    def last(self, conn: Connection, stream: str) -> StoredEvent | None:
        """Return a stream's last event."""
        query = self._sql(
            "SELECT {columns} FROM {schema}.events WHERE stream = %s ORDER BY version DESC LIMIT 1"
        )
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            return cursor.execute(query, (stream,)).fetchone()

    def read_all(self, conn: Connection, after: int, limit: int) -> list[StoredEvent]:
        """Return up to ``limit`` events behind position ``after``, of all streams, in order."""
        query = self._sql(
            "SELECT {columns} FROM {schema}.events WHERE position > %s ORDER BY position LIMIT %s"
        )
        with conn.cursor(row_factory=class_row(StoredEvent)) as cursor:
            return cursor.execute(query, (after, limit)).fetchall()

    def read_streams(self, conn: Connection, prefix: str) -> Iterator[StoredEvent]:
        """Yield the events of every stream whose name begins with ``prefix``, stream by stream.

        In the caller's transaction; a few hundred of them are held at a time.
        """
        query = self._sql(
            "SELECT {columns} FROM {schema}.events WHERE starts_with(stream, %s) "
            "ORDER BY stream, version"
        )
        with conn.cursor(f"streams_{uuid4().hex}", row_factory=class_row(StoredEvent)) as cursor:
            cursor.itersize = 500
            yield from cursor.execute(query, (prefix,))

    def end(self, conn: Connection) -> int:
        """Return the position of the last event; 0 when there is none."""
        row = conn.execute(self._sql("SELECT max(position) FROM {schema}.events")).fetchone()
        return (row[0] if row else None) or 0

    def waits_behind(self, conn: Connection) -> int | None:
        """Return the position up to which everything is published, or None where nothing waits."""
        query = self._sql(
            "SELECT relay.position FROM {schema}.relay "
            "WHERE EXISTS (SELECT FROM {schema}.events WHERE events.position > relay.position)"
        )
        row = conn.execute(query).fetchone()
        return None if row is None else int(row[0])

    def relayed(self, conn: Connection) -> int:
        """Return the position up to which everything is published."""
        row = conn.execute(self._sql("SELECT position FROM {schema}.relay")).fetchone()
        return int(row[0]) if row else 0

    def note_relayed(
        self, conn: Connection, position: int, delivered: Mapping[StoredEvent, Delivery]
    ) -> None:
        """Note what was published, and that nothing before ``position`` is left to publish."""
        with conn.cursor() as cursor:
            cursor.executemany(
                self._sql(
                    "INSERT INTO {schema}.deliveries (position, event_id, topic, kafka_offset) "
                    "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
                ),
                [
                    (event.position, event.event_id, place.topic, place.offset)
                    for event, place in delivered.items()
                ],
            )
        conn.execute(
            self._sql("UPDATE {schema}.relay SET position = %s WHERE position < %s"),
            (position, position),
        )

    def delivery(self, conn: Connection, event_id: UUID) -> Delivery | None:
        """Return where an event was published, or None while it was not."""
        row = conn.execute(
            self._sql("SELECT topic, kafka_offset FROM {schema}.deliveries WHERE event_id = %s"),
            (event_id,),
        ).fetchone()
        return None if row is None else Delivery(*row)

    def published_behind(self, conn: Connection, position: int) -> set[UUID]:
        """Return which events behind ``position`` are noted as published."""
        query = self._sql("SELECT event_id FROM {schema}.deliveries WHERE position > %s")
        return {event_id for (event_id,) in conn.execute(query, (position,))}

    def last_delivered(self, conn: Connection, topic: str) -> tuple[UUID, int] | None:
        """Return the last event that was noted as published on ``topic``, and its offset there."""
        row = conn.execute(
            self._sql(
                "SELECT event_id, kafka_offset FROM {schema}.deliveries WHERE topic = %s "
                "ORDER BY position DESC LIMIT 1"
            ),
            (topic,),
        ).fetchone()
        return None if row is None else (row[0], row[1])


def _conflict(
    error: errors.UniqueViolation, stream: str, version: int, event: NewEvent
) -> ConcurrencyConflict:
    if "event_id" in (error.diag.constraint_name or ""):
        return ConcurrencyConflict(f"the event {event.event_id} is stored already")
    return ConcurrencyConflict(f"{stream} has version {version} already")
