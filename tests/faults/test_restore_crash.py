"""kill -9 at every point of a restore, of an undo and of what cleans up after them.

Whatever dies, wherever: it ends by itself, once, whole, and nothing is left of it. The points are
those that the code declares. One that nothing here comes by fails, so that none is forgotten.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

import restore_service.app  # noqa: F401 - it imports whatever declares a point
from cli.platform import platform
from restore_service import events as ev
from restore_service.staging import before_name
from shared.crashpoints import CrashPoint
from shared.errors import UnavailableError
from shared.instance import events as ie
from shared.instance.reading import ACTOR, EPOCH
from shared.messages import CloudEvent
from shared.messages.topics import AUDIT, INSTANCE_EVENTS, RESTORE_EVENTS
from tests.plugins.faults import Crashing, one_or_all
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live

VICTIMS: Final = ("restore", "projector", "kafka", "postgres", "all")
ENDS_WITHIN_S: Final = 30.0
_CLOSING: Final = (ie.Restored.TYPE, ie.RestoreAborted.TYPE)


@dataclass
class Attempt:
    """A restore that was stopped somewhere, and both states that it may lead to."""

    replaced: str
    """The digest if it comes about."""
    kept: str
    """The digest if it does not."""
    epoch: int
    position: int
    """Where the log ended before it."""
    rolls_forward: bool = False
    paused: int | None = None
    """The pid of a projector that was paused on the way."""


@dataclass
class Scene:
    """What an attempt starts from."""

    crashing: Crashing
    backup: Json
    key: str

    @property
    def live(self) -> Live:
        return self.crashing.live

    def ask(self, **named: object) -> None:
        """Ask for a restore; whoever answers may die of it."""
        self._in_thread(
            lambda: self.live.start(self.key, backup_id=self.backup["backup_id"], **named)
        )

    def ask_undo(self) -> None:
        instance = self.live.instance_id
        self._in_thread(
            lambda: self.live.services.restores.undo(target_instance_id=instance, reason="a test")
        )

    @staticmethod
    def _in_thread(ask: Callable[[], Json]) -> None:
        def body() -> None:
            with suppress(UnavailableError):
                ask()

        threading.Thread(target=body, daemon=True).start()

    def restore(self) -> Json:
        ended = self.live.restore(self.backup, self.key)
        assert ended["state"] == "restored", ended
        return ended

    def attempt(self, replaced: str | None = None, *, rolls_forward: bool = False) -> Attempt:
        """Note what there is, before it begins."""
        place, digest = self.live.position(), self.live.digest()
        return Attempt(
            replaced or self.backup["digest"], digest, place.epoch, place.position, rolls_forward
        )

    def restore_id(self) -> str:
        """Return the id of the last request."""
        with self.live.admin() as conn:
            row = conn.execute(
                "SELECT restore_id FROM restore.restores ORDER BY requested_position DESC LIMIT 1"
            ).fetchone()
        assert row is not None
        return str(row[0])

    def wait_relayed(self) -> None:
        """Wait until everything that was said is published."""

        def relayed() -> bool:
            with self.live.admin() as conn:
                row = conn.execute(
                    "SELECT (SELECT max(position) FROM restore.events) = position FROM restore.relay"
                ).fetchone()
            return bool(row and row[0])

        eventually(relayed, "everything is published")

    def stop_then(self, first: str, point: str, meanwhile: Callable[[], object]) -> None:
        """Stop at ``first``, do something, and let go on to ``point``."""
        points = self.crashing.points
        points.arm(first)
        self.ask()
        points.wait(first)
        meanwhile()
        points.arm(point)
        points.release(first)


# How a point is come by


def restored(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt()
    scene.crashing.points.arm(point)
    scene.ask()
    return attempt


def rolled_forward(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt(scene.live.digest(), rolls_forward=True)
    scene.crashing.points.arm(point)
    scene.ask(roll_forward="latest")
    return attempt


def undone(scene: Scene, point: str) -> Attempt:
    before = scene.live.digest()
    scene.restore()
    attempt = scene.attempt(before)
    scene.crashing.points.arm(point)
    scene.ask_undo()
    return attempt


def cancelled(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt()
    scene.stop_then(
        "restore.step.load",
        point,
        lambda: scene.live.services.restores.cancel(scene.restore_id()),
    )
    return attempt


def abandoned(scene: Scene, point: str) -> Attempt:
    """Its process dies behind the fence, and the next one ends it: there it is stopped."""
    attempt = scene.attempt()

    def die() -> None:
        scene.crashing.points.arm(point)
        scene.crashing.kill("restore")

    scene.stop_then("restore.step.load", point, die)
    return attempt


def abandoned_without_a_projector(scene: Scene, point: str) -> Attempt:
    """As before, and the fence stays where it is until the recovery lowers it."""
    attempt = scene.attempt()

    def die() -> None:
        attempt.paused = scene.crashing.pids()["projector"]
        os.kill(attempt.paused, signal.SIGSTOP)
        scene.crashing.points.arm(point)
        scene.crashing.kill("restore")

    scene.stop_then("restore.step.load", point, die)
    return attempt


def restored_over_another(scene: Scene, point: str) -> Attempt:
    """What an earlier restore keeps is dropped when the recovery comes by."""
    unwanted = scene.live.digest()
    scene.restore()
    scene.restore()
    attempt = scene.attempt()
    scene.crashing.points.arm(point)
    scene.ask()
    assert unwanted != attempt.replaced
    return attempt


def fence_published(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt()
    scene.stop_then("restore.step.fence", point, scene.wait_relayed)
    return attempt


def decision_published(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt()
    scene.stop_then("restore.cut_over.uncommitted", point, scene.wait_relayed)
    return attempt


Way = Callable[[Scene, str], Attempt]

# Where a name begins like this, the point is come by so; the longest such beginning counts.
WAYS: Final[dict[str, tuple[Way, ...]]] = {
    "restore.": (restored,),
    "restore.step.replay": (rolled_forward,),
    "restore.replay.": (rolled_forward,),
    "restore.step.check_kept": (undone,),
    "undo.": (undone,),
    "restore.abort.": (cancelled,),
    "restore.recover.": (abandoned,),
    "restore.recover.fence_": (abandoned_without_a_projector,),
    "restore.recover.previous_": (restored_over_another,),
    "relay.": (fence_published, decision_published),
}


def ways() -> list[tuple[str, Way]]:
    """Return every declared point of a restore with every way to it."""
    found: list[tuple[str, Way]] = []
    for name in sorted(CrashPoint.declared):
        beginnings = [start for start in WAYS if name.startswith(start)]
        if beginnings:
            found += [(name, way) for way in WAYS[max(beginnings, key=len)]]
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "victim" in metafunc.fixturenames:
        cases = one_or_all(metafunc.config, ways(), VICTIMS)
        metafunc.parametrize(
            ("point", "way", "victim"),
            [(name, way, victim) for (name, way), victim in cases],
            ids=[f"{name}-{way.__name__}-{victim}" for (name, way), victim in cases],
        )


@pytest.fixture(scope="module")
def scene(crashing: Crashing) -> Scene:
    crashing.live.write(60)
    backup, key = crashing.live.backup()
    return Scene(crashing, backup, key)


@pytest.fixture(autouse=True)
def let_go(crashing: Crashing) -> None:
    crashing.points.release()
    crashing.rest()


def test_whatever_dies_it_ends_once_and_whole(
    scene: Scene, point: str, way: Way, victim: str
) -> None:
    crashing, live = scene.crashing, scene.live
    live.add_project(f"unwanted-{uuid4().hex}")
    attempt = way(scene, point)
    crashing.points.wait(point)
    rude = f"rude-{uuid4()}"
    offset = write_rudely(live, rude, attempt.epoch)
    crashing.kill(victim)
    crashing.points.release()
    if attempt.paused is not None:
        with suppress(ProcessLookupError):
            os.kill(attempt.paused, signal.SIGCONT)
    crashing.wait_up()

    ended = wait_ended(scene)
    state = ended["state"]
    fence = said_once(scene, attempt, ended)
    present = (
        offset < fence if attempt.rolls_forward and state == "restored" else state != "restored"
    )
    assert_digest(live, attempt.replaced if state == "restored" else attempt.kept, rude, present)
    nothing_is_left(scene)
    life_goes_on(scene)


def write_rudely(live: Live, name: str, epoch: int) -> int:
    """Append an event without a look at any fence; return its offset."""
    event = ie.SettingSet(name=name, value={})
    message = CloudEvent(
        type=event.TYPE,
        source="/rude",
        data=ie.encode(event),
        extensions={EPOCH: str(epoch), ACTOR: "rude"},
    )
    kafka = live.kafka("platform")
    with kafka.producer() as producer:
        return producer.send_sync(kafka.topic(INSTANCE_EVENTS), message.to_kafka())


def wait_ended(scene: Scene) -> Json:
    restore_id = scene.restore_id()

    def look() -> Json | None:
        with suppress(UnavailableError):
            found = scene.live.services.restores.get(restore_id)
            return found if found["state"] in ev.ENDED else None
        return None

    found: Json = eventually(look, f"{restore_id} ends", ENDS_WITHIN_S)
    return found


def said_once(scene: Scene, attempt: Attempt, ended: Json) -> int:
    """Check what the log says of it; return the fence's offset, or where the log ended."""
    live, restored = scene.live, ended["state"] == "restored"
    with live.admin() as conn:
        rows = conn.execute(
            "SELECT type FROM restore.events WHERE stream = %s AND topic = %s ORDER BY position",
            (ev.stream_of(ended["restore_id"]), INSTANCE_EVENTS),
        ).fetchall()
    stored = [row[0] for row in rows]
    scene.wait_relayed()
    said = announced(live, attempt.position, ended["restore_id"])
    kinds = [kind for _, kind in said]
    assert kinds == stored
    assert kinds.count(ie.RestoreStarted.TYPE) <= 1
    assert sum(kinds.count(kind) for kind in _CLOSING) == kinds.count(ie.RestoreStarted.TYPE)
    assert (ie.Restored.TYPE in kinds) == restored
    eventually(lambda: not live.position().fenced, "the fence is gone")
    assert live.position().epoch == attempt.epoch + restored
    return said[0][0] if said else live.position().position


def announced(live: Live, start: int, restore_id: str) -> list[tuple[int, str]]:
    """Return what the log says of one restore, with the offsets."""
    kafka = live.kafka()
    topic = kafka.topic(INSTANCE_EVENTS)
    found: list[tuple[int, str]] = []
    with kafka.admin() as admin, kafka.log_reader(topic) as reader:
        for batch in reader.between(start, admin.last_stable_offset(topic)):
            for record in batch.records:
                event = CloudEvent.from_kafka(record)
                kind, body = event.type, event.data
                if kind in (ie.RestoreStarted.TYPE, *_CLOSING) and restore_id.encode() in body:
                    found.append((record.offset, kind))
    return found


def assert_digest(live: Live, digest: str, rude: str, present: bool) -> None:
    """Compare the store, but for the one event that was written while it was stopped."""
    # What comes now is stored: the projector is behind everything that was written before.
    later = f"later-{rude}"
    with platform(live.stack.state) as parts:

        def write(event: ie.InstanceEvent) -> None:
            parts.writer.wait_until_stored(parts.writer.append(event), 20)

        write(ie.SettingSet(name=later, value={}))
        assert settings(live, rude, later) == ({rude, later} if present else {later})
        for name in settings(live, rude, later):
            write(ie.SettingRemoved(name=name))
    assert live.digest() == digest


def settings(live: Live, *names: str) -> set[str]:
    with live.admin() as conn:
        rows = conn.execute("SELECT name FROM instance.settings WHERE name = ANY(%s)", ([*names],))
        return {row[0] for row in rows}


def nothing_is_left(scene: Scene) -> None:
    live = scene.live

    def only_what_is_kept() -> bool:
        restores = live.services.restores.list()["restores"]
        kept = {before_name(r["restore_id"]) for r in restores if r.get("kept_as")}
        return live.schemas() == {"instance"} | kept

    eventually(only_what_is_kept, "there is no schema but those that the history names")
    assert not list(live.stack.state.rglob(".partial-*"))


def life_goes_on(scene: Scene) -> None:
    scene.restore()
    assert scene.live.digest() == scene.backup["digest"]


@pytest.mark.parametrize("topic", [INSTANCE_EVENTS, RESTORE_EVENTS, AUDIT])
def test_nothing_was_published_twice_and_nothing_never(scene: Scene, topic: str) -> None:
    scene.wait_relayed()
    with scene.live.admin() as conn:
        rows = conn.execute("SELECT event_id FROM restore.events WHERE topic = %s", (topic,))
        stored = {row[0] for row in rows}
    ids = [event.id for event in scene.live.messages(topic)]
    assert stored <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_point_is_reached_by_something() -> None:
    others = {name for name in CrashPoint.declared if name.startswith("backup.")}
    assert {name for name, _ in ways()} == set(CrashPoint.declared) - others
