"""The projector on real Kafka against the model: fences, their ends, and ends that fit no fence."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from shared.instance.events import (
    InstanceEvent,
    ProjectCreated,
    RestoreAborted,
    Restored,
    RestoreStarted,
    encode,
)
from shared.instance.fold import LoggedEvent
from shared.instance.position import LogPosition
from shared.instance.reading import ACTOR, EPOCH
from shared.messages import CloudEvent
from tests.model import Model, Tables, differences, read_tables
from tests.plugins.hypothesis_profile import scaled
from tests.plugins.instance import TestInstance, eventually
from tests.strategies import LOG, histories

JSON_COLUMNS = ("labels", "value")


class Run:
    """One history on its way over the log into a store, the model beside it."""

    def __init__(self, instance: TestInstance) -> None:
        self.instance = instance
        self.model = Model(LOG)

    def follow(self, history: list[LoggedEvent]) -> None:
        """Write ``history`` and do with the store what a restore does where one ends."""
        for logged in history:
            fence = self.model.fence
            self.model.apply(logged.offset, logged)
            if fence is not None and self.model.fence is None:
                self._wait_at(logged.offset, fence[2])
                if isinstance(logged.event, Restored):
                    self._cut_over()
            self._write(logged)
        self._wait_at(history[-1].offset + 1)

    def _wait_at(self, position: int, fence_offset: int | None = None) -> LogPosition:
        wanted = fence_offset if self.model.fence is None else self.model.fence[2]

        def there() -> LogPosition | None:
            row = self.instance.position()
            arrived = row.position == (position if wanted is None else wanted + 1)
            return row if arrived and row.fence_offset == wanted else None

        found: LogPosition = eventually(there, f"position {position}, fence {wanted}")
        return found

    def _write(self, logged: LoggedEvent) -> None:
        event = logged.event
        if isinstance(event, RestoreStarted | Restored | RestoreAborted):
            offset = self.instance.announce(event)
        else:
            message = CloudEvent(
                type=logged.type,
                source="/test",
                data=encode(event),
                id=logged.event_id,
                time=logged.time,
                extensions={EPOCH: str(logged.epoch), ACTOR: logged.actor},
            )
            offset = self.instance.send(message.to_kafka())
        assert offset == logged.offset

    def _cut_over(self) -> None:
        """Put the state behind the restore, which the model knows by now, into a new schema."""
        self.instance.cut_over(self.instance.position())
        with psycopg.connect(self.instance.dsn) as conn:
            conn.execute("DROP SCHEMA instance_before CASCADE")
            insert(conn, self.model.tables())


def insert(conn: psycopg.Connection[tuple[object, ...]], tables: Tables) -> None:
    for name, rows in tables.items():
        for row in rows.values():
            more = {"detail": "from the model"} if name == "rejections" else {}
            full = row | more
            values = [
                Jsonb(value) if column in JSON_COLUMNS and value is not None else value
                for column, value in full.items()
            ]
            query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("instance", name),
                sql.SQL(", ").join(map(sql.Identifier, full)),
                sql.SQL(", ").join([sql.Placeholder()] * len(full)),
            )
            conn.execute(query, values)


def check(run: Run) -> None:
    with psycopg.connect(run.instance.dsn) as conn:
        assert differences(run.model.tables(), read_tables(conn)) == []
    row = run.instance.position()
    assert row.epoch == run.model.epoch
    assert row.highest_fence_no == run.model.highest_fence_no
    skipped = {name: row.skipped.get(name, 0) for name in ("epoch", "fenced")}
    assert skipped == {name: run.model.skipped[name] for name in skipped}


@settings(max_examples=scaled(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(restores=True, gaps=False), st.sampled_from([1, 3, 500]))
def test_rows_are_those_of_the_model_through_fences_and_restores(
    new_instance: Callable[[], TestInstance], history: list[LoggedEvent], batch_events: int
) -> None:
    run = Run(new_instance())
    with run.instance.projector(batch_events=batch_events):
        run.follow(history)
        check(run)


def test_a_second_start_behind_an_open_fence_is_spent(instance: TestInstance) -> None:
    """When the first is aborted, what stands behind it is read again: it must not rise then."""
    first, second = uuid4(), uuid4()
    events: list[InstanceEvent] = [
        ProjectCreated(id=uuid4(), name="before"),
        RestoreStarted(restore_id=first, fence_no=1, backup_id=uuid4()),
        RestoreStarted(restore_id=second, fence_no=2, backup_id=uuid4()),
        ProjectCreated(id=uuid4(), name="behind"),
        RestoreAborted(restore_id=first, fence_no=1, reason="a test"),
        ProjectCreated(id=uuid4(), name="after"),
        RestoreStarted(restore_id=uuid4(), fence_no=2, backup_id=uuid4()),
        ProjectCreated(id=uuid4(), name="last"),
    ]
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    run = Run(instance)
    with instance.projector():
        run.follow(
            [
                LoggedEvent(offset, uuid4(), event.TYPE, moment, "tester", 1, event)
                for offset, event in enumerate(events)
            ]
        )
        check(run)
    assert len(run.model.tables()["projects"]) == 4
