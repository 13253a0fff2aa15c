"""The history on a real PostgreSQL: what is asked of it, page by page, and made anew."""

from __future__ import annotations

import csv
import io
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from backup_service import events as ev
from backup_service.context import BackupContext
from backup_service.handlers.rebuild_history import rebuild_history
from backup_service.history import HistoryQuery, all_pages
from backup_service.history.query import Sort
from backup_service.history.table import csv_lines
from serving.caller import PERMISSIONS
from serving.requester import Requester
from shared.clock import SystemClock
from shared.errors import ConflictError
from shared.eventstore import EventMeta, NewEvent
from tests.keeping import append, created, offline_context, running
from tests.manybackups import insert
from tests.plugins.containers import EMBEDDED
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres

ADMIN = Requester("anna", PERMISSIONS, "test", "corr-1")
MANY = 100_000
# Of CPU, the server's and ours: others at work on the machine do not count.
PAGE_BOUND_S = 0.1

Json = dict[str, Any]


@pytest.fixture
def fresh(postgres: TestPostgres, tmp_path: Path) -> Iterator[BackupContext]:
    made = offline_context(postgres.fresh_place().dsn("secryn_backup"), tmp_path, SystemClock())
    yield made
    made.pool.close()


def rows(context: BackupContext) -> list[tuple[Any, ...]]:
    """Return every row and every document of the history."""
    with context.pool.connection() as conn:
        return conn.execute(
            "SELECT backups.*, document FROM backup.backups "
            "JOIN backup.backup_documents USING (backup_id) ORDER BY requested_position"
        ).fetchall()


def page(context: BackupContext, **asked: Any) -> Json:
    with context.pool.connection() as conn:
        return context.history.page(conn, HistoryQuery.model_validate(asked))


def ids(found: Json) -> list[str]:
    return [backup["backup_id"] for backup in found["backups"]]


# The same rows as the events give


def test_a_rebuild_gives_exactly_the_same_rows_beside_a_running_service(
    fresh: BackupContext,
) -> None:
    for _ in range(30):
        full_life(fresh)
    stop, failed = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                full_life(fresh)
                assert page(fresh, limit=5)["backups"]
            except Exception as error:
                failed.append(error)
                return

    with ThreadPoolExecutor(2) as threads:
        working = [threads.submit(work) for _ in range(2)]
        try:
            reports = [rebuild_history(fresh, ADMIN) for _ in range(3)]
        finally:
            stop.set()
        for one in working:
            one.result(20)
    assert not failed
    assert reports[-1]["backups"] >= 30
    before = rows(fresh)
    assert len(before) == number_of_streams(fresh)
    rebuild_history(fresh, ADMIN)
    assert rows(fresh) == before
    # The next ones are folded into the rebuilt tables.
    added = full_life(fresh)
    assert ids(page(fresh, limit=1)) == [added]


def full_life(context: BackupContext) -> str:
    """Make one backup by its events, with something of everything."""
    backup_id = created(context)
    outcome = {"intact": random.random() < 0.8, "code": None, "message": None}
    append(
        context, backup_id, NewEvent(ev.KEY_VIEWED, {}), NewEvent(ev.VERIFIED, {"outcome": outcome})
    )
    failed = running(context)
    fault = {"code": "backup.failed", "message": "a test", "hint": None}
    append(context, failed, NewEvent(ev.FAILED, {"error": fault}))
    return failed


def number_of_streams(context: BackupContext) -> int:
    with context.pool.connection() as conn:
        row = conn.execute(
            "SELECT count(DISTINCT stream) FROM backup.events WHERE stream LIKE 'backup-%'"
        ).fetchone()
    return int(row[0]) if row else 0


def test_a_rebuild_waits_for_no_reader_for_ever_and_only_one_goes_on(fresh: BackupContext) -> None:
    created(fresh)
    with fresh.pool.connection() as reader, ThreadPoolExecutor(1) as thread:
        reader.execute("SELECT count(*) FROM backup.backups")
        rebuilding = thread.submit(rebuild_history, fresh, ADMIN)
        eventually(lambda: beside(fresh), "the rebuild is under way")
        with pytest.raises(ConflictError):
            rebuild_history(fresh, ADMIN)
        # Nor does it hold up whoever backs up meanwhile.
        began = time.monotonic()
        added = created(fresh)
        assert time.monotonic() - began < 5
        assert not rebuilding.done()
        reader.rollback()
        assert rebuilding.result(30)["backups"] == 2
    assert added in ids(page(fresh))


def beside(context: BackupContext) -> bool:
    """Tell whether another transaction holds the lock of rebuilds."""
    with context.pool.connection() as conn:
        found = conn.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 15 AND granted"
        )
        return found.fetchone() is not None


def test_an_interrupted_rebuild_leaves_nothing(fresh: BackupContext) -> None:
    created(fresh)
    before = rows(fresh)
    with (
        pytest.raises(psycopg.OperationalError),
        psycopg.connect(fresh.settings.postgres.dsn) as conn,
    ):

        def cut(done: int, end: int) -> None:
            with fresh.pool.connection() as other:
                other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))

        fresh.history.rebuild(conn, cut)
    assert rows(fresh) == before
    with fresh.pool.connection() as conn:
        left = conn.execute("SELECT relname FROM pg_class WHERE relname LIKE '%rebuilt%'")
        assert left.fetchall() == []


def test_a_history_of_an_earlier_layout_is_made_anew_at_the_start(fresh: BackupContext) -> None:
    backup_id = full_life(fresh)
    before = rows(fresh)
    with fresh.pool.connection() as conn:
        conn.execute("DROP TABLE backup.backups, backup.backup_documents, backup.read_models")
        conn.execute(
            "CREATE TABLE backup.backups (backup_id uuid PRIMARY KEY, requested_position bigint "
            "NOT NULL, state text NOT NULL, document jsonb NOT NULL)"
        )
    with fresh.pool.connection() as conn:
        fresh.history.migrate(conn)
    assert rows(fresh) == before
    assert ids(page(fresh))[0] == backup_id


# Pages


def test_pages_of_every_order_hold_every_backup_once_in_order(fresh: BackupContext) -> None:
    insert(fresh.history, fresh.pool, 300, seed=7)
    # Many alike, and many that are not there: only the position tells those apart.
    for sort in Sort:
        whole = ids(page(fresh, sort=sort, order="asc", limit=1000))
        assert len(whole) == 300
        found: list[str] = []
        with_values = []
        for part in all_pages(
            fresh.history, fresh.pool.connection, HistoryQuery(sort=sort, order="asc", limit=7)
        ):
            found += [backup["backup_id"] for backup in part]
            with_values += [backup[SHOWN_AS.get(sort, sort.value)] for backup in part]
        assert found == whole
        there = [value for value in with_values if value is not None]
        assert there == sorted(there)
        assert with_values[: len(with_values) - len(there)] == [None] * (300 - len(there))
        assert ids(page(fresh, sort=sort, order="desc", limit=1000)) == whole[::-1]


SHOWN_AS = {Sort.VERIFIED_AT: "last_verified_at"}


def test_what_is_added_meanwhile_moves_no_later_page(fresh: BackupContext) -> None:
    insert(fresh.history, fresh.pool, 20, seed=8)
    whole = ids(page(fresh, limit=20))
    first = page(fresh, limit=8)
    added = created(fresh)
    second = page(fresh, limit=12, cursor=first["next_cursor"])
    assert ids(first) + ids(second) == whole
    assert second["next_cursor"] is None
    assert ids(page(fresh, limit=1)) == [added]


def test_each_filter_gives_what_it_names_and_together_they_narrow(fresh: BackupContext) -> None:
    insert(fresh.history, fresh.pool, 300, seed=9)
    everything = page(fresh, limit=1000)["backups"]
    for asked, matches in FILTERS:
        expected = [backup["backup_id"] for backup in everything if matches(backup)]
        assert ids(page(fresh, limit=1000, **asked)) == expected, asked
    for asked, matches in FILTERS:
        other, also = FILTERS[3]
        both = [b["backup_id"] for b in everything if matches(b) and also(b)]
        assert ids(page(fresh, limit=1000, **(other | asked))) == both or set(other) & set(asked)


MIDDLE = datetime(2026, 6, 1, tzinfo=UTC)
FILTERS: list[tuple[Json, Any]] = [
    ({"state": ["created", "purged"]}, lambda b: b["state"] in ("created", "purged")),
    ({"key_state": ["viewed"]}, lambda b: b["key_state"] == "viewed"),
    ({"requested_by": "schedule"}, lambda b: b["requested_by"] == "schedule"),
    ({"requested_from": MIDDLE.isoformat()}, lambda b: at(b["requested_at"]) >= MIDDLE),
    ({"requested_to": MIDDLE.isoformat()}, lambda b: at(b["requested_at"]) < MIDDLE),
    ({"offset_from": 500_000}, lambda b: b["offset"] is not None and b["offset"] >= 500_000),
    ({"offset_to": 500_000}, lambda b: b["offset"] is not None and b["offset"] < 500_000),
    ({"proven": True}, lambda b: b["state"] == "created" and b["intact"] is not False),
    ({"proven": False}, lambda b: not (b["state"] == "created" and b["intact"] is not False)),
    ({"held": True}, lambda b: bool(b["holds"])),
    ({"text": "QUARTERLY"}, lambda b: "quarterly" in b["reason"].casefold()),
    ({"text": "100%"}, lambda b: "100%" in b["reason"]),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# CSV


def test_a_spreadsheet_takes_no_cell_for_a_formula(fresh: BackupContext) -> None:
    backup_id = str(uuid4())
    hostile = '=HYPERLINK("https://example.org", "x"), "y"'
    asked = {"reason": hostile, "recipient_fingerprints": ["@SUM(A1)"], "at_position": False}
    with fresh.pool.connection() as conn:
        meta = EventMeta("+issuer", "corr-1")
        fresh.history.append(conn, backup_id, 0, [NewEvent(ev.REQUESTED, asked)], meta)
    pages = all_pages(fresh.history, fresh.pool.connection, HistoryQuery())
    (line,) = csv.DictReader(io.StringIO("".join(csv_lines(pages))))
    assert line["reason"] == f"'{hostile}"
    assert line["requested_by"] == "'+issuer"
    assert line["recipients"] == "'@SUM(A1)"
    assert (line["backup_id"], line["state"], line["offset"]) == (backup_id, "requested", "")


def test_the_whole_history_is_streamed_as_csv(fresh: BackupContext) -> None:
    insert(fresh.history, fresh.pool, 2500, seed=10)
    pages = all_pages(fresh.history, fresh.pool.connection, HistoryQuery(limit=1000))
    parts = list(csv_lines(pages))
    assert len(parts) == 3
    lines = list(csv.DictReader(io.StringIO("".join(parts))))
    assert len({line["backup_id"] for line in lines}) == 2500


# Speed


def test_a_page_of_a_hundred_thousand_comes_at_once_whatever_is_asked(
    fresh: BackupContext, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--stack") != EMBEDDED:
        pytest.skip("the processes of a server elsewhere cannot be seen from here")
    insert(fresh.history, fresh.pool, MANY, seed=11)
    slow = {}
    for sort in Sort:
        for order in ("asc", "desc"):
            for asked in [{}, *[asked for asked, _ in FILTERS], RARE]:
                took = worked(fresh, sort=sort, order=order, **asked)
                if took > PAGE_BOUND_S:
                    slow[sort.value, order, str(asked)] = round(took, 3)
    assert not slow


# Nothing matches: whoever walks an index in order walks it to its end.
RARE = {"text": "no reason has it", "held": True}


def worked(context: BackupContext, **asked: Any) -> float:
    """Return the seconds of CPU that a page takes."""
    query = HistoryQuery.model_validate(asked)
    with context.pool.connection() as conn:
        began, ours = on_cpu_s(conn.info.backend_pid), time.thread_time()
        context.history.page(conn, query)
        return on_cpu_s(conn.info.backend_pid) - began + time.thread_time() - ours


def on_cpu_s(pid: int) -> float:
    """Return how long a process has been on a CPU."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
