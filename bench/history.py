"""Pages of a history of 100,000 backups, in every order and with every filter; and its rebuild."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from statistics import median

from backup_service.events import CREATED, REQUESTED
from backup_service.history import History, HistoryQuery
from backup_service.history.query import Sort
from bench.figure import Figure, measured
from bench.machine import Machine, tell
from bench.watched import peak_memory
from shared.database import Lock, Pool, open_pool
from shared.eventstore import EventStore
from shared.settings import PostgresSettings
from tests.manybackups import insert

# At the default scale 100,000.
BACKUPS_PER_COPY = 5_000
# 100 ms, promised of every page.
LEAST_PAGES_PER_S = 10
# A rebuild of a fifth of the backups shows that memory does not grow with them.
PARTS = 5
MOST_GROWN_MB = 30
FILTERS: list[dict[str, object]] = [
    {},
    {"state": ["failed"]},
    {"key_state": ["waiting"], "proven": True},
    {"requested_by": "schedule", "requested_from": "2026-06-01T00:00:00Z"},
    {"offset_from": 990_000},
    {"held": True},
    {"text": "quarterly"},
    {"text": "nobody wrote this", "held": True},
]


def run(machine: Machine) -> list[Figure]:
    """Make the history up, ask for its pages, and fold it from as many events."""
    count = machine.scale * BACKUPS_PER_COPY
    pool = open_pool(PostgresSettings(dsn=machine.fresh_database()), "bench")
    try:
        store = EventStore("backup", Lock.BACKUP_APPEND)
        history = History(store)
        with pool.connection() as conn:
            store.migrate(conn)
            history.migrate(conn)
        tell(f"making {count:,} backups up")
        insert(history, pool, count, seed=1)
        taken = [
            _page(history, pool, sort, order, asked)
            for sort, order, asked in itertools.product(Sort, ("asc", "desc"), FILTERS)
        ]
        part = _rebuilt(history, pool, count // PARTS)
        whole = _rebuilt(history, pool, count - count // PARTS)
        return [
            Figure("history, slowest page", 1 / max(taken), "pages/s", LEAST_PAGES_PER_S),
            Figure("history, median page", 1000 * median(taken), "ms"),
            Figure("history, rebuilt", count / whole.seconds, "backups/s"),
            Figure("history, memory of a rebuild of a fifth", part.grown_mb, "MB"),
            Figure("history, memory of a rebuild", whole.grown_mb, "MB", most=MOST_GROWN_MB),
        ]
    finally:
        pool.close()


def _page(history: History, pool: Pool, sort: Sort, order: str, asked: dict[str, object]) -> float:
    query = HistoryQuery.model_validate(asked | {"sort": sort, "order": order})
    with pool.connection() as conn, measured() as watch:
        history.page(conn, query)
    return watch.seconds


@dataclass(frozen=True)
class _Rebuild:
    """How long it took, and by how much the process was larger meanwhile."""

    seconds: float
    grown_mb: float


def _rebuilt(history: History, pool: Pool, more: int) -> _Rebuild:
    """Add the events of ``more`` backups, and fold all that there are."""
    with pool.connection() as conn:
        conn.execute(_EVENTS, {"count": more, "requested": REQUESTED, "created": CREATED})
    with pool.connection() as conn, peak_memory(os.getpid()) as memory, measured() as watch:
        history.rebuild(conn)
    return _Rebuild(watch.seconds, (memory.peak_kb - memory.before_kb) / 1000)


_EVENTS = """
INSERT INTO backup.events (stream, version, type, data, event_id, occurred_at, actor,
    correlation_id, causation_id, extensions)
SELECT 'backup-' || backup_id, version, type, data, gen_random_uuid(), now(), 'bench', 'c', '', '{}'
FROM (SELECT gen_random_uuid() AS backup_id FROM generate_series(1, %(count)s)) AS backups,
    (VALUES
        (1, %(requested)s, '{"reason": "a measurement", "recipient_fingerprints": [],
            "at_position": false}'::jsonb),
        (2, %(created)s, '{"size_bytes": 1000, "offset": 7}'::jsonb)
    ) AS events (version, type, data)
"""
