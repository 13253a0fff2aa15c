"""Three replicas, and one killed at the moment of a decision: each is made once, and none lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from backup_service import events as ev
from backup_service.configuration.commands import CONFIGURE, Configure
from backup_service.configuration.schedule import Schedule
from backup_service.handlers.configure import DECIDED, TOLD, configure
from backup_service.handlers.follow_changes import TAKEN as CHANGED
from backup_service.handlers.follow_changes import TAKING as CHANGING
from backup_service.handlers.run_schedule import DUE, TAKEN, TAKING
from shared.database import LOCK_SPACE, Lock
from shared.messages import CloudEvent, sign
from shared.messages.topics import BACKUP_COMMANDS, ensure_topics
from tests.backing import ADMIN, ISSUER, Backing
from tests.plugins.faults import Points
from tests.plugins.instance import eventually
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres
from tests.replica import FileClock, Replicas

PATIENCE_S = 120.0
HOURLY = Schedule(enabled=True, frequency="hourly", at="00:00")


@dataclass
class Place:
    backing: Backing
    clock: FileClock
    replicas: Replicas
    points: Points

    def stopped(self, name: str) -> int:
        """Wait until a replica stands at a point; return its pid."""
        self.points.wait(name, PATIENCE_S)
        return int((self.points.folder / f"{name}.reached").read_text())

    def of_tick(self, tick: datetime) -> list[str]:
        """Return the backups that were asked for by the schedule for one tick."""
        return [
            event.data["backup_id"]
            for event in self.backing.events(ev.REQUESTED)
            if (event.data["trigger"] or {}).get("tick") == tick.isoformat()
        ]

    def created(self) -> set[str]:
        return {event.data["backup_id"] for event in self.backing.events(ev.CREATED)}

    def wait_for_one(self, tick: datetime) -> None:
        """Wait for the backup of a tick; there is exactly one, and one decision."""
        eventually(lambda: set(self.of_tick(tick)) & self.created(), f"{tick} is made", PATIENCE_S)
        assert len(set(self.of_tick(tick)) & self.created()) == 1
        taken = [
            e for e in self.backing.events(ev.TICK_TAKEN) if e.data["tick"] == tick.isoformat()
        ]
        assert [event.data["outcome"] for event in taken] == ["run"]

    def configure(self, schedule: Schedule) -> None:
        command = Configure(uuid4(), "*", "r", schedule)
        configure(self.backing.context, command, ADMIN, wait_s=PATIENCE_S)

    def settle(self) -> None:
        """Wait until no backup is asked for that has not ended."""
        ended = (ev.CREATED, ev.FAILED, ev.CANCELLED)

        def quiet() -> bool:
            asked = {event.data["backup_id"] for event in self.backing.events(ev.REQUESTED)}
            over = {e.data["backup_id"] for kind in ended for e in self.backing.events(kind)}
            return asked <= over

        eventually(quiet, "every backup has ended", PATIENCE_S)

    def leader_sessions(self) -> list[int]:
        query = (
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
            f"classid = {LOCK_SPACE} AND objid = {int(Lock.BACKUP_SCHEDULE)}"
        )
        return [pid for (pid,) in self.backing.rows(query)]


@pytest.fixture(scope="module")
def place(
    postgres: TestPostgres, kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("replicas")
    clock = FileClock(folder / "clock")
    clock.set(datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    backing = Backing.create(postgres, kafka, folder, clock)
    with backing.context.kafka.admin() as admin:
        ensure_topics(admin, backing.context.kafka.topic)
    replicas = Replicas(backing, clock, folder)
    with backing.stack, backing.projector():
        backing.stack.callback(replicas.close)
        for _ in range(3):
            replicas.start()
        place = Place(backing, clock, replicas, Points(replicas.points))
        place.configure(HOURLY)
        yield place


@pytest.mark.parametrize("point", [DUE.name, TAKING.name, TAKEN.name])
def test_a_leader_that_dies_at_a_tick_leaves_exactly_one_backup(place: Place, point: str) -> None:
    place.points.arm(point)
    tick = place.clock.pass_(hours=1).replace(minute=0)
    leader = place.stopped(point)
    assert leader in place.replicas.pids
    place.replicas.kill(leader)
    place.points.release(point)
    # The dead one may have been making it: then it is made again.
    place.clock.pass_(seconds=40)
    place.wait_for_one(tick)
    place.clock.pass_(seconds=-40)
    place.replicas.start()


def test_two_leaders_that_overlap_take_a_tick_once(place: Place) -> None:
    place.points.arm(DUE.name)
    tick = place.clock.pass_(hours=1).replace(minute=0)
    first = place.stopped(DUE.name)
    (session,) = place.leader_sessions()
    # It lost its lock and does not know it yet.
    place.backing.rows(f"SELECT pg_terminate_backend({session})")
    eventually(lambda: place.stopped(DUE.name) != first, "another one leads", PATIENCE_S)
    place.points.release(DUE.name)
    place.wait_for_one(tick)
    assert len(place.of_tick(tick)) == 1


def test_all_of_them_start_anew_between_two_ticks_and_none_is_lost(place: Place) -> None:
    before = place.clock.now().replace(minute=0)
    for pid in place.replicas.pids:
        place.replicas.kill(pid)
    tick = place.clock.pass_(hours=3).replace(minute=0)
    place.replicas.start()
    place.wait_for_one(tick)
    decided = [event.data for event in place.backing.events(ev.TICK_TAKEN)][-1]
    assert decided["missed"] == (tick - before).total_seconds() // 3600 - 1
    assert len(place.of_tick(before)) == 1
    place.replicas.start()


@pytest.mark.parametrize("point", [CHANGING.name, CHANGED.name])
def test_a_leader_that_dies_when_changes_ask_for_a_backup_leaves_exactly_one(
    place: Place, point: str
) -> None:
    # While nothing is asked for by changes, none is taken before the point is armed.
    place.configure(Schedule(enabled=True, at="12:00"))
    place.clock.pass_(seconds=90)
    place.settle()
    before = len(place.backing.events(ev.CHANGE_TAKEN))
    place.points.arm(point)
    place.configure(Schedule(enabled=True, at="12:00", after_events=3))
    for n in range(3):
        place.backing.add(f"{point} {n}")
    place.replicas.kill(place.stopped(point))
    place.points.release(point)
    eventually(
        lambda: len(place.backing.events(ev.CHANGE_TAKEN)) > before, "it is taken", PATIENCE_S
    )
    place.replicas.start()
    place.settle()
    taken = place.backing.events(ev.CHANGE_TAKEN)[before:]
    asked = {event.data["backup_id"] for event in place.backing.events(ev.REQUESTED)}
    assert len(taken) == 1
    assert taken[0].data["backup_id"] in asked


@pytest.mark.parametrize("point", [DECIDED.name, TOLD.name])
def test_a_change_is_decided_once_though_who_decides_it_dies(place: Place, point: str) -> None:
    place.points.arm(point)
    command_id, minute = str(uuid4()), 10 if point == DECIDED.name else 20
    body = {
        "command_id": command_id, "if_match": "*", "reason": "r",
        "value": {"at": f"12:{minute}"},
    }  # fmt: skip
    event = CloudEvent(CONFIGURE["schedule"], "/test", json.dumps(body).encode())
    kafka = place.backing.context.kafka
    with kafka.producer() as producer:
        signed = sign(event, place.backing.restorer, ISSUER)
        producer.send_sync(kafka.topic(BACKUP_COMMANDS), signed.to_kafka())
    place.replicas.kill(place.stopped(point))
    place.points.release(point)

    def stored() -> bool:
        value = place.backing.rows("SELECT value FROM instance.settings")[0][0]
        return bool(value["at"] == f"12:{minute}")

    eventually(stored, "the change is in the store", PATIENCE_S)
    place.replicas.start()
    decided = [e for e in place.backing.events(ev.CONFIGURED) if e.causation_id == command_id]
    assert len(decided) == 1
