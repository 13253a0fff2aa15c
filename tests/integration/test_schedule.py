"""The schedule at work: ticks, changes, staleness, what a restore brought; on a clock that is set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from backup_service import events as ev
from backup_service.command_handlers import command_handlers
from backup_service.configuration.commands import CONFIGURE, Configure, Confirm
from backup_service.configuration.schedule import Schedule
from backup_service.configuration.staleness import Staleness
from backup_service.events import fold_backup, stream_of
from backup_service.handlers.configure import configure, confirm
from backup_service.handlers.follow_changes import follow_changes
from backup_service.handlers.note_restore import note_restore
from backup_service.handlers.run_now import RUN_SCHEDULE, RunNow, run_now
from backup_service.handlers.run_schedule import run_schedule
from backup_service.handlers.watch_confirmations import watch_confirmations
from backup_service.handlers.watch_staleness import watch_staleness
from backup_service.metrics import ProtectionCollector
from backup_service.schedule.view import show_protection, show_schedule
from serving.requester import Requester
from shared.archive.age import HybridIdentity, recipient_fingerprint
from shared.errors import AccessError, EpochChanged
from shared.eventstore import EventMeta, NewEvent
from shared.instance.reading import ANNOUNCE
from shared.instance.stored import Written
from shared.messages import CloudEvent, Issuer
from shared.messages.between import RESTORE_COMPLETED
from tests.backing import ADMIN, ISSUER, Backing
from tests.clock import HandClock
from tests.plugins.kafka import TestKafka
from tests.plugins.postgres import TestPostgres

RECIPIENT = HybridIdentity.generate().to_recipient().encode()
FINGERPRINT = recipient_fingerprint(RECIPIENT)
MAKER = replace(ADMIN, name="max", permissions=frozenset({"create", "read"}))
Json = dict[str, Any]


class Place:
    """A place on a clock that is set, and what its schedule has asked for."""

    def __init__(self, backing: Backing, clock: HandClock) -> None:
        self.backing = backing
        self.clock = clock
        self.context = backing.context

    def set(self, **value: Any) -> None:
        """Set the schedule anew: hourly, and nothing of an earlier test is left."""
        for backup_id in self.open():
            self.end(backup_id, "failed")
        self.clock.pass_(hours=3)
        # What was off begins anew.
        configure(self.context, Configure(uuid4(), "*", "r", Schedule()), ADMIN)
        common: Json = {"enabled": True, "frequency": "hourly", "at": "00:00"}
        configure(self.context, Configure(uuid4(), "*", "r", Schedule(**common | value)), ADMIN)
        self.clock.time = self.clock.time.replace(minute=50, second=0, microsecond=0)
        if self.clock.time.minute and self.since() > self.clock.time:
            self.clock.pass_(hours=1)

    def since(self) -> datetime:
        return self.backing.events(ev.CONFIGURED)[-1].occurred_at

    def tick(self, **passing: float) -> list[Json]:
        """Let time pass, and return what was asked for then."""
        self.clock.pass_(**passing)
        before = len(self.requests())
        run_schedule(self.context)
        return self.requests()[before:]

    def requests(self) -> list[Json]:
        return [event.data for event in self.backing.events(ev.REQUESTED)]

    def decided(self) -> Json:
        return self.backing.events(ev.TICK_TAKEN)[-1].data

    def open(self) -> list[str]:
        with self.context.pool.connection() as conn:
            found = self.context.history
            return [*found.in_state(conn, "requested"), *found.in_state(conn, "running")]

    def end(self, backup_id: str, state: str, code: str = "failed", **more: Any) -> None:
        """End a backup: ``created`` at the store's position, or failed with ``code``."""
        position = self.backing.position()
        facts: Json = {"backup_id": backup_id}
        if state == "failed":
            facts["error"] = {"code": code, "message": "m", "hint": None}
        else:
            facts |= {
                "epoch": position.epoch, "cluster_id": position.cluster_id,
                "topic_id": position.topic_id, "offset": position.position,
                "started_at": self.clock.now().isoformat(), "proven_at": None,
                "size_bytes": 1, "duration_s": 1.0,
            }  # fmt: skip
        self.append(backup_id, ev.FAILED if state == "failed" else ev.CREATED, facts | more)

    def append(self, backup_id: str, kind: str, data: Json) -> None:
        with self.context.pool.connection() as conn:
            stream = self.context.store.read_stream(conn, stream_of(backup_id))
            version = fold_backup(backup_id, stream).version
            meta = EventMeta("tester", "c")
            self.context.history.append(conn, backup_id, version, [NewEvent(kind, data)], meta)

    def counting(self) -> str:
        """Make a backup that counts, of what the store has now."""
        backup_id = run_now(self.context, RunNow(command_id=uuid4()), ADMIN)["backup_id"]
        self.end(backup_id, "created")
        self.append(backup_id, ev.KEY_VIEWED, {"backup_id": backup_id})
        return str(backup_id)

    def write(self, events: int) -> None:
        for _ in range(events):
            written = self.add()
        self.backing.writer.wait_until_stored(written, 20)

    def add(self) -> Written:
        try:
            return self.backing.add(str(uuid4()))
        except EpochChanged:
            # The writer learns of what other tests did to the epoch.
            return self.backing.add(str(uuid4()))

    def restored(self, source: UUID) -> None:
        self.backing.execute("UPDATE instance.log_position SET epoch = epoch + 1")
        data = {
            "restore_id": str(uuid4()),
            "epoch": self.backing.position().epoch,
            "source_instance_id": str(source),
        }
        issuer = Issuer(ISSUER, self.backing.restorer.public, frozenset({ANNOUNCE}))
        told = CloudEvent(RESTORE_COMPLETED, "/test", json.dumps(data).encode())
        note_restore(self.context, told, issuer)


@pytest.fixture(scope="module")
def place(
    postgres: TestPostgres, kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    clock = HandClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
    folder: Path = tmp_path_factory.mktemp("place")
    made = Backing.create(postgres, kafka, folder, clock)
    with made.stack, made.projector(), made.relay():
        made.writer.wait_until_stored(made.add("a"), 20)
        yield Place(made, clock)


def test_a_tick_is_taken_once_however_many_lead(place: Place) -> None:
    place.set()
    assert place.tick(minutes=9) == []
    place.clock.pass_(minutes=1)
    before = len(place.requests())
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: run_schedule(place.context), range(6)))
    (request,) = place.requests()[before:]
    tick = place.clock.now().isoformat()
    assert request["trigger"] == {"kind": "schedule", "tick": tick, "attempt": 1}
    assert (request["recipient_fingerprints"], request["wait_for_restore"]) == ([], True)
    assert place.decided()["backup_id"] == request["backup_id"]
    assert place.tick(minutes=30) == []


def test_what_was_missed_is_made_up_once_or_left_out(place: Place) -> None:
    place.set()
    (request,) = place.tick(hours=5)
    assert request["trigger"]["tick"].startswith(place.clock.now().strftime("%Y-%m-%dT%H:00"))
    assert (place.decided()["outcome"], place.decided()["missed"]) == ("run", 4)
    place.set(missed="skip")
    assert place.tick(hours=5) == []
    assert (place.decided()["outcome"], place.decided()["missed"]) == ("skipped", 4)
    # Four minutes late is not missed.
    assert len(place.tick(minutes=14)) == 1


def test_a_run_that_is_still_going_is_not_doubled(place: Place) -> None:
    place.set()
    (request,) = place.tick(minutes=10)
    assert place.tick(hours=1) == []
    assert place.decided()["outcome"] == "overlapped"
    assert place.decided()["backup_id"] == request["backup_id"]
    place.end(request["backup_id"], "created")
    assert len(place.tick(hours=1)) == 1


def test_nothing_is_made_where_nothing_changed(place: Place) -> None:
    place.set(skip_if_unchanged=True)
    backup_id = place.counting()
    assert place.tick(minutes=10) == []
    assert (place.decided()["outcome"], place.decided()["backup_id"]) == ("unchanged", backup_id)
    place.write(1)
    (request,) = place.tick(hours=1)
    place.end(request["backup_id"], "created")
    # Its key waits: somebody may view it yet.
    assert place.tick(hours=1) == []
    place.append(request["backup_id"], ev.VERIFIED, {
        "outcome": {"intact": False, "code": "archive.altered", "message": ""},
    })  # fmt: skip
    assert len(place.tick(hours=1)) == 1


def test_a_clock_that_is_set_back_doubles_nothing_and_stops_nothing(place: Place) -> None:
    place.set()
    (first,) = place.tick(minutes=10)
    place.end(first["backup_id"], "created")
    assert place.tick(minutes=-30) == []
    assert place.tick(minutes=31) == []
    (second,) = place.tick(minutes=59)
    place.end(second["backup_id"], "created")
    assert place.tick(days=-30) == []
    assert place.backing.events(ev.SCHEDULE_REBASED)[-1].data["era"] >= 1
    (third,) = place.tick(hours=1)
    assert third["trigger"]["tick"] < second["trigger"]["tick"]
    place.clock.pass_(days=30)


def test_a_run_that_was_interrupted_is_made_again_three_times_at_most(place: Place) -> None:
    place.set()
    (request,) = place.tick(minutes=10)
    attempts = [request]
    for _ in range(2):
        place.end(attempts[-1]["backup_id"], "failed", "interrupted")
        assert place.tick(seconds=5) == []
        attempts += place.tick(seconds=30)
    assert [one["trigger"]["attempt"] for one in attempts] == [1, 2, 3]
    assert len({one["trigger"]["tick"] for one in attempts}) == 1
    place.end(attempts[-1]["backup_id"], "failed", "interrupted")
    assert place.tick(seconds=60) == []
    (next_tick,) = place.tick(hours=1)
    place.end(next_tick["backup_id"], "failed", "backup.proof_failed")
    assert place.tick(seconds=60) == []


def test_so_many_events_make_a_backup_between_the_ticks(place: Place) -> None:
    place.set(after_events=4, frequency="daily", at="00:00")
    place.counting()
    before = len(place.requests())
    place.write(2)
    follow_changes(place.context)
    assert len(place.requests()) == before
    place.write(2)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: follow_changes(place.context), range(4)))
    (request,) = place.requests()[before:]
    assert request["trigger"]["kind"] == "changes"
    place.end(request["backup_id"], "failed", "interrupted")
    follow_changes(place.context)
    assert len(place.requests()) == before + 1
    place.clock.pass_(seconds=61)
    follow_changes(place.context)
    assert len(place.requests()) == before + 2
    place.end(place.requests()[-1]["backup_id"], "created")
    place.clock.pass_(seconds=61)
    follow_changes(place.context)
    assert len(place.requests()) == before + 2


def test_staleness_is_told_once_and_cleared_once(place: Place) -> None:
    place.set()
    configure(place.context, Configure(uuid4(), "*", "r", Staleness(within_s=3600)), ADMIN)
    place.counting()
    told = [len(place.backing.events(kind)) for kind in (ev.STALE, ev.FRESH)]
    for minutes in (50, 20, 20):
        place.clock.pass_(minutes=minutes)
        for _ in range(2):
            watch_staleness(place.context)
    assert show_protection(place.context)["staleness"]["stale"]
    backup_id = run_now(place.context, RunNow(command_id=uuid4()), ADMIN)["backup_id"]
    place.end(backup_id, "created")
    watch_staleness(place.context)
    # Nobody can open it yet.
    assert len(place.backing.events(ev.FRESH)) == told[1]
    place.append(backup_id, ev.KEY_VIEWED, {"backup_id": backup_id})
    for _ in range(2):
        watch_staleness(place.context)
    assert [len(place.backing.events(kind)) for kind in (ev.STALE, ev.FRESH)] == [
        told[0] + 1, told[1] + 1,
    ]  # fmt: skip
    outcomes = [entry["status"] for entry in place.backing.audited("backups.staleness")]
    assert outcomes[-2:] == ["Failure", "Success"]


def test_the_recovery_point_is_told_in_events_and_seconds(place: Place) -> None:
    place.set()
    backup_id = place.counting()
    place.clock.pass_(seconds=90)
    found = show_protection(place.context)["recovery_point"]
    assert found == {"backup_id": backup_id, "events": 0, "seconds": 0}
    place.write(6)
    found = show_protection(place.context)["recovery_point"]
    assert (found["events"], found["seconds"]) == (6, 90)
    registry = CollectorRegistry()
    registry.register(ProtectionCollector(place.context))
    text = generate_latest(registry).decode()
    for line in (
        "secryn_backup_rpo_events 6.0", "secryn_backup_rpo_seconds 90.0", "secryn_backup_stale 0.0",
        'secryn_backup_configuration_unconfirmed{setting="schedule"} 0.0',
    ):  # fmt: skip
        assert line in text
    assert "secryn_backup_next_run_timestamp_seconds 1." in text


def test_nobody_is_encrypted_to_whom_a_restore_brought_back(place: Place) -> None:
    place.set(recipients=(RECIPIENT,))
    (request,) = place.tick(minutes=10)
    assert request["recipient_fingerprints"] == [FINGERPRINT]
    place.end(request["backup_id"], "created")
    place.restored(place.backing.instance_id)
    for _ in range(2):
        watch_confirmations(place.context)
    (told,) = [
        event.data for event in place.backing.events(ev.CONFIRMATION_AWAITED)
        if event.data["epoch"] == place.backing.position().epoch and event.data["name"] == "schedule"
    ]  # fmt: skip
    assert (told["origin"], len(told["waiting_recipients"])) == ("restored", 1)
    assert show_protection(place.context)["awaits_confirmation"]["schedule"] == "restored"
    (request,) = place.tick(hours=1)
    assert request["recipient_fingerprints"] == []
    place.end(request["backup_id"], "created")
    by_hand = run_now(place.context, RunNow(command_id=uuid4()), MAKER)
    assert by_hand["recipients"] == []
    confirm(place.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)
    (request,) = place.tick(hours=1)
    assert request["recipient_fingerprints"] == [FINGERPRINT]


def test_the_schedule_of_another_instance_runs_when_it_was_confirmed(place: Place) -> None:
    place.set()
    place.restored(uuid4())
    assert place.tick(hours=3) == []
    assert show_schedule(place.context)["next_runs"] == []
    confirm(place.context, Confirm(uuid4(), "*", "r", Schedule), ADMIN)
    assert place.tick(minutes=5) == []
    assert len(place.tick(hours=1)) == 1


def test_a_tick_that_is_due_when_something_else_is_changed_is_not_lost(place: Place) -> None:
    place.set()
    place.clock.pass_(minutes=11)
    kept: Json = {"enabled": True, "frequency": "hourly", "at": "00:00"}
    value = Schedule(**kept, recipients=(RECIPIENT,))
    configure(place.context, Configure(uuid4(), "*", "r", value), ADMIN)
    assert len(place.tick(seconds=1)) == 1


def test_the_next_ten_runs_are_shown_and_one_is_made_by_hand(place: Place) -> None:
    place.set(zone="Europe/Berlin", recipients=(RECIPIENT,))
    shown = show_schedule(place.context)
    assert len(shown["next_runs"]) == 10
    assert shown["next_runs"][0]["local"].endswith(("+01:00", "+02:00"))
    command = RunNow(command_id=uuid4())
    backup = run_now(place.context, command, MAKER)
    assert (backup["requested_by"], len(backup["recipients"])) == ("max", 1)
    assert run_now(place.context, command, MAKER) == backup
    with pytest.raises(AccessError):
        run_now(place.context, RunNow(command_id=uuid4()), replace(MAKER, permissions=frozenset()))


def test_signed_commands_set_and_run_the_schedule(place: Place) -> None:
    place.set()
    handlers = command_handlers(place.context)
    issuer = Requester("issuer:ops", frozenset({"configure", "create"}), "kafka", "c", frozenset())
    body = {"command_id": str(uuid4()), "if_match": "*", "reason": "r", "value": {"at": "05:00"}}
    for _ in range(2):
        handlers[CONFIGURE["schedule"]](json.dumps(body).encode(), issuer)
    mine = [e for e in place.backing.events(ev.CONFIGURED) if e.causation_id == body["command_id"]]
    assert [(event.actor, event.data["value"]["at"]) for event in mine] == [("issuer:ops", "05:00")]
    body["value"] = {"recipients": [RECIPIENT]}
    body["command_id"] = str(uuid4())
    with pytest.raises(AccessError):
        handlers[CONFIGURE["schedule"]](json.dumps(body).encode(), issuer)
    run = {"command_id": str(uuid4())}
    handlers[RUN_SCHEDULE](json.dumps(run).encode(), issuer)
    assert place.requests()[-1]["command_id"] == run["command_id"]
