"""Rehearsals by themselves: which backup, which tick, once; on a clock that is set."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from deploy.embedded.folder import open_state
from restore_service.app import make_context
from restore_service.context import SERVICE, RestoreContext
from restore_service.handlers import rehearse_by_schedule as schedule
from restore_service.handlers.end_rehearsal import end_rehearsal, recover_rehearsals
from restore_service.handlers.rehearse_by_schedule import rehearse_by_schedule
from restore_service.rehearsal import events as ev
from restore_service.rehearsal import ticks
from restore_service.rehearsal.identity import StandingIdentity
from restore_service.rehearsal.metrics import RehearsalCollector
from restore_service.rehearsal.ticks import read_setting
from restore_service.rehearsal.view import show_schedule
from restore_service.settings import RehearsalSettings, RestoreServiceSettings
from restore_service.worker import RehearsalWorker
from shared.archive.age import HybridIdentity, X25519Identity, recipient_fingerprint
from shared.archive.receipt import write_receipt
from shared.crashpoints import CrashPoint
from shared.database import hold_liveness, open_pool
from shared.errors import (
    BackupNotFound,
    Interrupted,
    KeyMalformed,
    RehearsalInProgress,
    RestoreFailedError,
    RestoreInProgress,
    SecrynError,
    TickMissed,
    UnknownSetting,
)
from shared.eventstore import EventMeta, NewEvent, StoredEvent
from shared.kafka import Kafka
from shared.messages import SigningKey
from shared.secretfiles import write_secret_file
from shared.settings import load_settings
from shared.standing.rehearsal import RehearsalTiming
from tests.clock import HandClock
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Live
from tests.plugins.postgres import TestPostgres
from tests.rehearsing import scratch, shown_rehearsal
from tests.restoring import META, Restoring

IDENTITY = HybridIdentity.generate()
FINGERPRINT = recipient_fingerprint(IDENTITY.to_recipient().encode())
OTHER = recipient_fingerprint(X25519Identity.generate().to_recipient().encode())
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Json = dict[str, Any]


class Killed(BaseException):
    """As far as this process got."""


@dataclass
class Place:
    """A place with an identity of its own, a clock that is set, and two processes."""

    restoring: Restoring
    clock: HandClock
    identity_file: Path
    signer: SigningKey
    context: RestoreContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = replace(
            self.restoring.context,
            identity=StandingIdentity(self.identity_file),
            trusted_signers=frozenset({self.signer.fingerprint}),
        )

    def another(self) -> RestoreContext:
        return replace(self.context, runner=str(uuid4()), to_rehearse={})

    def set(self, **value: Any) -> None:
        """Set it as the projector would: every day at six, if nothing else is said."""
        common: Json = {"enabled": True, "frequency": "daily", "at": "06:00"}
        document = RehearsalTiming(**common | value).as_json()
        with psycopg.connect(self.restoring.place.dsn("secryn_projector")) as conn:
            conn.execute(
                "INSERT INTO instance.settings (name, value, updated_at, updated_by) "
                "VALUES (%s, %s, %s, 'anna') ON CONFLICT (name) DO UPDATE "
                "SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at",
                (RehearsalTiming.setting(), json.dumps(document), self.clock.now()),
            )

    def store(
        self,
        *recipients: str,
        age: timedelta = timedelta(),
        instance_id: UUID | None = None,
        signer: SigningKey | None = None,
        content: bytes | None = b"no age file",
    ) -> str:
        """Put an object with its receipt into the storage, proven ``age`` ago."""
        backup_id, key = str(uuid4()), signer or self.signer
        proven_at = self.clock.now() - age
        facts: Json = {
            "backup_id": backup_id,
            "instance_id": str(instance_id or self.context.settings.place.instance_id),
            "environment": "default", "epoch": 1, "cluster_id": "cluster", "topic_id": "topic",
            "offset": 1, "schema_version": 1, "digest": "0" * 64, "tables": {}, "size_bytes": 11,
            "sha256": "0" * 64, "key_fingerprint": None, "recipient_fingerprints": list(recipients),
            "signer": key.fingerprint, "requested_by": "anna", "reason": "r",
            "started_at": proven_at.isoformat(), "proven_at": proven_at.isoformat(), "behind": False,
        }  # fmt: skip
        name = f"{backup_id}.receipt.json"
        write_receipt(self.context.backups, name, facts, key)
        folder = self.context.settings.storage.folder
        os.utime(folder / name, (proven_at.timestamp(), proven_at.timestamp()))
        if content is not None:
            writer = self.context.backups.create(f"{backup_id}.age")
            writer.write(content)
            writer.commit()
        return backup_id

    def tick(self, context: RestoreContext | None = None, **passing: float) -> list[Json]:
        """Let time pass, and return the rehearsals that were asked for then."""
        self.clock.pass_(**passing)
        before = len(self.requests())
        rehearse_by_schedule(context or self.context)
        return self.requests()[before:]

    def events(self, *kinds: str) -> list[StoredEvent]:
        with self.context.transaction("a test") as conn:
            found = self.context.store.read_all(conn, 0, 100_000)
        return [event for event in found if event.type in kinds]

    def requests(self) -> list[Json]:
        return [event.data for event in self.events(ev.REQUESTED)]

    def skipped(self) -> list[str]:
        return [event.data["error"]["code"] for event in self.events(ticks.SKIPPED)]

    def end(self, rehearsal: Json, error: SecrynError) -> None:
        end_rehearsal(self.context, rehearsal["rehearsal_id"], error, META)

    def good(self, backup_id: str) -> None:
        """Have a rehearsal found the backup restorable just now."""
        rehearsal_id = str(uuid4())
        asked = {"rehearsal_id": rehearsal_id, "backup_id": backup_id, "upload_id": None,
                 "runner": self.context.runner}  # fmt: skip
        ended = {"rehearsal_id": rehearsal_id, "backup_id": backup_id, "outcome": ev.RESTORABLE}
        events = [NewEvent(ev.REQUESTED, asked), NewEvent(ev.REHEARSED, ended)]
        with self.context.transaction("a test") as conn:
            self.context.rehearsals.append(conn, rehearsal_id, 0, events, EventMeta("t", "c"))

    def measured(self, name: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(RehearsalCollector(self.context))
        return registry.get_sample_value(f"secryn_restore_{name}")


@pytest.fixture
def place(postgres: TestPostgres, tmp_path: Path) -> Iterator[Place]:
    clock = HandClock(NOON)
    restoring = Restoring.create(postgres, tmp_path, clock=clock)
    file = tmp_path / "rehearsals.identity"
    write_secret_file(file, f"# of this place\n{IDENTITY.encode()}\n".encode())
    yield Place(restoring, clock, file, SigningKey.create(tmp_path / "backup.key"))
    restoring.context.pool.close()


def test_a_tick_is_taken_once_by_whichever_replica_and_not_again_after_a_restart(
    place: Place,
) -> None:
    backup_id = place.store(FINGERPRINT)
    place.set()
    assert place.tick(hours=17, minutes=59) == []
    contexts = [place.context, place.another(), place.another()]
    place.clock.pass_(minutes=1)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(rehearse_by_schedule, contexts))
    (asked,) = place.requests()
    assert asked["backup_id"] == backup_id
    assert asked["reason"] == "the schedule, for 2026-03-02T06:00+00:00"
    assert asked["key_fingerprint"] == FINGERPRINT
    (holder,) = [context for context in contexts if context.to_rehearse]
    assert holder.runner == asked["runner"]
    assert list(holder.to_rehearse) == [asked["rehearsal_id"]]
    place.end(asked, RestoreFailedError("a reason"))
    assert place.tick(place.another(), minutes=5) == []
    (following,) = place.tick(place.another(), days=1)
    assert following["rehearsal_id"] != asked["rehearsal_id"]
    assert [event.actor for event in place.events(ticks.TICK_TAKEN)] == ["schedule"] * 2


def test_it_is_of_the_newest_backup_of_this_instance_that_the_identity_opens(place: Place) -> None:
    place.set()
    stranger = SigningKey.create(place.identity_file.with_name("stranger.key"))
    place.store(FINGERPRINT, age=timedelta(days=3))
    newest = place.store(OTHER, FINGERPRINT, age=timedelta(days=2))
    place.store(OTHER, age=timedelta(days=1))
    place.store(FINGERPRINT, age=timedelta(hours=4), instance_id=uuid4())
    place.store(FINGERPRINT, age=timedelta(hours=3), signer=stranger)
    place.store(FINGERPRINT, age=timedelta(hours=2), content=None)
    # Copied to here since: when a file was written does not say which backup is the newest.
    folder = place.context.settings.storage.folder
    for file in folder.glob("*.receipt.json"):
        os.utime(file, (NOON.timestamp(), NOON.timestamp()))
    (asked,) = place.tick(days=1)
    assert asked["backup_id"] == newest


def test_the_key_is_in_the_memory_of_one_process_and_nowhere_else(place: Place) -> None:
    place.store(FINGERPRINT)
    place.set()
    (asked,) = place.tick(days=1)
    accepted = place.context.to_rehearse[asked["rehearsal_id"]]
    assert accepted.key.identity.encode() == IDENTITY.encode()
    secret = IDENTITY.encode()
    with place.context.transaction("a test") as conn:
        rows = conn.execute("SELECT data::text || extensions::text FROM restore.events").fetchall()
        rows += conn.execute("SELECT document::text FROM restore.rehearsals").fetchall()
    assert rows
    assert not any(secret in row[0] for row in rows)
    assert secret not in repr(accepted) + repr(place.context)


def test_where_nothing_can_be_rehearsed_the_reason_is_told_once_a_tick(place: Place) -> None:
    place.set()
    assert place.tick(days=1) == place.tick(minutes=1) == []
    assert place.skipped() == [BackupNotFound.code]
    place.store(FINGERPRINT)
    place.identity_file.chmod(0o644)
    assert place.tick(days=1) == []
    place.identity_file.chmod(0o600)
    place.identity_file.write_text("AGE-SECRET-KEY-1NOT\n")
    assert place.tick(days=1) == []
    assert place.skipped()[1:] == [UnknownSetting.code, KeyMalformed.code]
    told = place.events(ticks.SKIPPED)[-1]
    assert "NOT" not in json.dumps(told.data)
    assert (told.topic, told.data["rehearsal_id"]) == ("restore.events", None)
    assert show_schedule(place.context)["last_tick"]["error"]["code"] == KeyMalformed.code


def test_it_does_not_come_on_top_of_a_restore_or_of_another_rehearsal(place: Place) -> None:
    place.store(FINGERPRINT)
    place.set()
    (asked,) = place.tick(days=1)
    assert place.tick(days=1) == []
    place.end(asked, RestoreFailedError("a reason"))
    place.restoring.requested()
    assert place.tick(days=1) == []
    assert place.skipped() == [RehearsalInProgress.code, RestoreInProgress.code]


def test_one_that_was_interrupted_is_made_again_and_three_times_at_most(place: Place) -> None:
    place.store(FINGERPRINT)
    place.set()
    (first,) = place.tick(days=1)
    for _ in range(2):
        place.end(place.requests()[-1], Interrupted("its process died"))
        assert place.tick(seconds=20) == []
        (again,) = place.tick(place.another(), seconds=20)
        assert again["rehearsal_id"] != first["rehearsal_id"]
    place.end(again, Interrupted("its process died"))
    assert place.tick(minutes=5) == []
    assert again["reason"].endswith(", attempt 3")
    (following,) = place.tick(days=1)
    place.end(following, RestoreFailedError("it will fail again"))
    assert place.tick(minutes=5) == []


@pytest.mark.parametrize("point", [schedule.TAKING, schedule.TAKEN], ids=lambda point: point.name)
def test_a_process_that_dies_at_a_tick_leaves_it_taken_with_its_rehearsal_or_not_at_all(
    place: Place, point: CrashPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.store(FINGERPRINT)
    place.set()
    place.clock.pass_(days=1)

    def die(reached: CrashPoint) -> None:
        if reached is point:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CrashPoint, "reach", die)
        rehearse_by_schedule(place.context)
    other = place.another()
    recover_rehearsals(other, lambda _: False)
    place.tick(other, minutes=1)
    place.tick(other, minutes=1)
    taken = [event.data["attempt"] for event in place.events(ticks.TICK_TAKEN, ticks.TICK_RETRIED)]
    assert taken == ([1] if point is schedule.TAKING else [1, 2])
    (waiting,) = other.to_rehearse
    assert place.requests()[-1]["rehearsal_id"] == waiting
    assert len(place.requests()) == len(taken)


@pytest.mark.parametrize(("missed", "asked"), [("run", 1), ("skip", 0)])
def test_what_was_missed_is_made_up_once_or_left(place: Place, missed: str, asked: int) -> None:
    place.store(FINGERPRINT)
    place.set(missed=missed)
    assert len(place.tick(days=3, hours=1)) == asked
    assert place.skipped() == [TickMissed.code] * (1 - asked)
    assert place.tick(minutes=1) == []


def test_off_paused_and_without_an_identity_it_does_nothing(place: Place) -> None:
    place.store(FINGERPRINT)
    assert place.tick(days=2) == []
    place.set(enabled=False)
    assert place.tick(days=2) == []
    place.set(paused_until="2026-03-20")
    assert place.tick(days=2) == []
    assert place.tick(replace(place.context, identity=None), days=30) == []
    assert place.events(ticks.TICK_TAKEN, ticks.SKIPPED) == []
    assert len(place.tick()) == 1


def test_a_clock_that_is_set_back_makes_nothing_run_twice_and_stops_nothing(place: Place) -> None:
    place.store(FINGERPRINT)
    place.set()
    (first,) = place.tick(days=10)
    place.end(first, RestoreFailedError("a reason"))
    assert place.tick(days=-9) == []
    assert place.tick(minutes=1) == []
    (again,) = place.tick(days=1)
    assert again["rehearsal_id"] != first["rehearsal_id"]
    assert len(place.events(ticks.REBASED)) == 1


def test_what_cannot_be_read_runs_nothing_and_says_so(place: Place) -> None:
    place.store(FINGERPRINT)
    place.set()
    with psycopg.connect(place.restoring.place.dsn("secryn_projector")) as conn:
        conn.execute("""UPDATE instance.settings SET value = '{"enabled": true, "zone": "Mars"}'""")
    assert place.tick(days=2) == []
    shown = show_schedule(place.context)
    assert "Mars" in shown["fault"]
    with place.context.transaction("a test") as conn:
        assert not read_setting(conn).value.enabled
    with psycopg.connect(place.restoring.place.dsn("secryn_projector")) as conn:
        conn.execute("DROP TABLE instance.settings CASCADE")
    assert place.tick(days=2) == []


def test_no_good_one_for_too_long_is_a_metric(place: Place) -> None:
    backup_id = place.store(FINGERPRINT)
    assert place.measured("rehearsal_stale") == 0
    place.set(within_s=2 * 86_400)
    assert place.measured("rehearsal_stale") == 0
    place.clock.pass_(days=3)
    assert place.measured("rehearsal_stale") == 1
    place.good(backup_id)
    shown = show_schedule(place.context)
    assert (shown["stale"], shown["last_restorable"]["backup_id"]) == (False, backup_id)
    assert place.measured("rehearsed_timestamp_seconds") == place.clock.now().timestamp()
    place.clock.pass_(days=3)
    assert show_schedule(place.context)["stale"]


def test_the_next_ten_are_shown_with_whose_identity(place: Place) -> None:
    place.set(zone="Europe/Berlin")
    shown = show_schedule(place.context)
    assert shown["identity"] == FINGERPRINT
    assert len(shown["next_runs"]) == 10
    assert shown["next_runs"][0]["local"] == "2026-03-02T06:00:00+01:00"
    without = show_schedule(replace(place.context, identity=None))
    assert (without["identity"], without["next_runs"]) == (None, [])


@contextmanager
def replica(live: Live, identity_file: Path) -> Iterator[RestoreContext]:
    """Run a replica of a live restore_service that has an identity, on a clock two minutes ahead."""
    settings = load_settings(
        RestoreServiceSettings, open_state(live.stack.state).config("restore"), {}
    )
    rehearsal = RehearsalSettings(identity_file=identity_file)
    settings = settings.model_copy(update={"rehearsal": rehearsal})
    pool, stop = open_pool(settings.postgres, "test"), threading.Event()
    clock = HandClock(datetime.now(UTC) + timedelta(minutes=2))
    context = make_context(settings, Kafka(settings.kafka, SERVICE), pool, stop, clock)
    worker = threading.Thread(target=RehearsalWorker(context).run, args=(stop,), daemon=True)
    with psycopg.connect(settings.postgres.dsn, autocommit=True) as conn:
        hold_liveness(conn, UUID(context.runner))
        worker.start()
        yield context
        stop.set()
        worker.join(30)
    pool.close()


def test_a_backup_for_the_places_recipient_is_rehearsed_by_itself_to_its_end(
    live: Live, tmp_path: Path
) -> None:
    recipient = IDENTITY.to_recipient().encode()
    file = tmp_path / "rehearsals.identity"
    write_secret_file(file, IDENTITY.encode().encode())
    configuration = live.services.configuration
    asked = live.services.backups.create("a test", recipients=[recipient])
    backup = live.services.backups.wait(asked["backup_id"])
    value: Json = {"enabled": True, "frequency": "cron", "cron": "* * * * *"}
    configuration.set("rehearsal", value, "*", "a test")
    try:
        with replica(live, file):

            def ended() -> Json | None:
                found: list[Json] = [
                    plain(one) for one in live.services.rehearsals.list()["rehearsals"]
                ]
                mine = [one for one in found if one["backup_id"] == backup["backup_id"]]
                return next((one for one in mine if one["state"] in ev.ENDED), None)

            rehearsal = eventually(ended, "it is rehearsed", 60)
    finally:
        configuration.set("rehearsal", {}, "*", "a test")
    assert (rehearsal["state"], rehearsal["outcome"]) == ("rehearsed", ev.RESTORABLE), rehearsal
    assert (rehearsal["requested_by"], rehearsal["proof"]["equivalent"]) == ("schedule", True)
    shown = shown_rehearsal(live, plain(backup), rehearsal)
    assert shown["rehearsal"]["outcome"] == ev.RESTORABLE
    noted = live.services.operations.list(subject=rehearsal["rehearsal_id"])["operations"]
    assert [(one["kind"], one["actor"], one["outcome"]) for one in noted] == [
        ("rehearsal", "schedule", "succeeded")
    ]
    found = live.services.rehearsals.schedule()
    assert plain(found["last_restorable"])["backup_id"] == backup["backup_id"]
    assert not scratch(live)
