"""The access of an archive, rolled forward along the log: by the fold's own rules, and it alone.

Only the events of users, roles and bindings are read into memory, a batch at a time. What a binding
is scoped to is taken to be there: the rest of the state is not at hand, and an event about something
that never was gives nobody anything. No password's hash goes into the temporary tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

import psycopg
from psycopg import sql

from restore_service.access import ACCESS_TYPES, LOADED, TEMPORARY, ArchivedAccess
from restore_service.context import RestoreContext
from restore_service.undone import BLOCK_OFFSETS, Undone
from shared.database import Connection
from shared.errors import ArchiveMalformed, MessageUnreadable
from shared.instance import events as ie
from shared.instance.fold import LoggedEvent, fold, needs_of
from shared.instance.reading import read_record
from shared.instance.retrace import BEGINNING, Stretch
from shared.instance.rules.access import SCOPE_TABLES
from shared.instance.store import load_rows, write_rows
from shared.instance.workingset import TABLES, WorkingSet
from shared.kafka import Record
from shared.messages import IssuerRegistry
from shared.messages.topics import INSTANCE_EVENTS

# What cannot be applied goes there, as in the store.
_REJECTIONS: Final = "rejections"
_BATCH_EVENTS: Final = 5_000


def roll_access_forward(
    context: RestoreContext,
    access: ArchivedAccess,
    archive_offset: int,
    undone: Undone,
    look: Callable[[], None],
) -> int:
    """Fold the way that ``undone`` leaves into the access of an archive; return where that ends.

    It was made at ``archive_offset``; the access is of the returned offset then. That is the end of
    the way, or an event on it that cannot be decoded: no restore goes past it.

    Raises ArchiveMalformed for rows that no instance has, KafkaUnavailable.
    """
    conn = access.conn
    _widen(conn)
    if undone.base == BEGINNING and archive_offset > 0:
        # Only the whole log leads across a restore on the way.
        for name in LOADED:
            conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(TEMPORARY, name)))
    with context.kafka.log_reader(context.kafka.topic(INSTANCE_EVENTS)) as reader:
        for part in _parts(undone):
            for batch in reader.between(part.start, part.end, _BATCH_EVENTS):
                look()
                events, unreadable = _read(batch.records, part.epoch, context.issuers)
                if events:
                    with conn.transaction():
                        _fold(conn, events, part.epoch)
                if unreadable is not None:
                    return unreadable
    return undone.target


def _parts(undone: Undone) -> Iterator[Stretch]:
    """Yield what of the way lies in the blocks that have events of access at all."""
    for stretch in undone.way:
        for first, last in runs_of(undone.access_blocks):
            start, end = max(stretch.start, first), min(stretch.end, last)
            if start < end:
                yield Stretch(start, end, stretch.epoch)


def runs_of(blocks: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield the offsets that ``blocks`` cover, neighbours together."""
    run: tuple[int, int] | None = None
    for block in sorted(blocks):
        start, end = block * BLOCK_OFFSETS, (block + 1) * BLOCK_OFFSETS
        if run is not None and run[1] == start:
            run = (run[0], end)
            continue
        if run is not None:
            yield run
        run = (start, end)
    if run is not None:
        yield run


def _read(
    records: Sequence[Record], epoch: int, issuers: IssuerRegistry
) -> tuple[list[LoggedEvent], int | None]:
    events: list[LoggedEvent] = []
    for record in records:
        if not any(name == "ce_type" and value in ACCESS_TYPES for name, value in record.headers):
            continue
        try:
            found = read_record(record, epoch, issuers)
        except MessageUnreadable:
            return events, record.offset
        if isinstance(found, LoggedEvent):
            events.append(_without_hash(found))
    return events, None


def _without_hash(logged: LoggedEvent) -> LoggedEvent:
    event = logged.event
    if not isinstance(event, ie.UserCreated):
        return logged
    return logged._replace(event=event.model_copy(update={"password_hash": None}))


def _fold(conn: Connection, events: Sequence[LoggedEvent], epoch: int) -> None:
    needs, working = needs_of(events), WorkingSet()
    scopes = {name: needs.keys.pop(name, set()) for name in SCOPE_TABLES.values()}
    found = load_rows(conn, TEMPORARY, needs)
    for name, keys in scopes.items():
        found[name] = [dict.fromkeys(TABLES[name].columns) | {"id": key[0]} for key in keys]
    working.load(needs, found)
    fold(working, events, epoch)
    write_rows(conn, TEMPORARY, working)


def _widen(conn: Connection) -> None:
    """Give the temporary tables the columns and keys that the fold writes by; all may be empty."""
    try:
        for name, loaded in LOADED.items():
            table, identifier = TABLES[name], sql.Identifier(TEMPORARY, name)
            for column, kind in table.columns.items():
                if column not in loaded:
                    added = sql.SQL("ALTER TABLE {} ADD COLUMN {} {}")
                    conn.execute(added.format(identifier, sql.Identifier(column), sql.SQL(kind)))
            key = sql.SQL(", ").join(map(sql.Identifier, table.key))
            conn.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(identifier, key))
    except psycopg.IntegrityError as error:
        raise ArchiveMalformed(
            f"the archive's rows break a rule of the schema ({type(error).__name__})"
        ) from None
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind))
        for column, kind in TABLES[_REJECTIONS].columns.items()
    )
    made = sql.SQL("CREATE TEMPORARY TABLE {} ({}, PRIMARY KEY (event_offset))")
    conn.execute(made.format(sql.Identifier(_REJECTIONS), columns))
