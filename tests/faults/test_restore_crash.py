"""kill -9 at every point of a restore, of an undo and of what cleans up after them.

Whatever dies, wherever: it ends by itself, once, whole, and nothing is left of it. The points are
those that the code declares. One that nothing here comes by fails, so that none is forgotten.
"""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import uuid4

import pytest

import restore_service.app  # noqa: F401 - it imports whatever declares a point
from backup_service.context import object_name
from shared.archive.age import DecryptReader, EncryptWriter
from shared.archive.keyfile import KeyFile
from shared.crashpoints import CrashPoint
from shared.errors import ArchiveAltered, ArchiveDamaged, ArchiveTruncated
from shared.messages.topics import AUDIT, INSTANCE_EVENTS, RESTORE_EVENTS
from tests.faults.restores import Attempt, Scene, assert_sound, wait_ended, write_rudely
from tests.plugins.faults import Crashing, one_or_all

# Kafka takes longest to come back, and after all of them so does the supervisor.
VICTIMS: Final = (
    "restore", "projector", "postgres", "restore", "kafka",
    "restore", "projector", "postgres", "restore", "all",
)  # fmt: skip


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
        "restore.step.prepare",
        point,
        lambda: scene.live.services.restores.cancel(scene.restore_id()),
    )
    return attempt


def abandoned(scene: Scene, point: str) -> Attempt:
    """Its process dies behind the fence, and the next one ends it: there it is stopped."""
    attempt = scene.attempt()
    scene.stop_then("restore.step.prepare", point, lambda: scene.crashing.kill("restore"))
    return attempt


def abandoned_when_decided(scene: Scene, point: str) -> Attempt:
    attempt = scene.attempt()
    scene.stop_then("restore.cut_over.committed", point, lambda: scene.crashing.kill("restore"))
    return attempt


def abandoned_without_a_projector(scene: Scene, point: str) -> Attempt:
    """As before, and the fence stays where it is until the recovery lowers it."""
    attempt = scene.attempt()

    def die() -> None:
        attempt.paused = scene.crashing.pids()["projector"]
        os.kill(attempt.paused, signal.SIGSTOP)
        scene.crashing.kill("restore")

    scene.stop_then("restore.step.prepare", point, die)
    return attempt


def restored_over_another(scene: Scene, point: str) -> Attempt:
    """What an earlier restore keeps is dropped when the recovery comes by."""
    scene.restore()
    scene.restore()
    attempt = scene.attempt()
    scene.crashing.points.arm(point)
    scene.ask()
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
    "restore.cut_over.": (restored, undone),
    "restore.abort.": (cancelled,),
    "restore.recover.abandoned": (abandoned, abandoned_when_decided),
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
    scene: Scene, point: str, way: Way, victim: str, request: pytest.FixtureRequest
) -> None:
    crashing, live = scene.crashing, scene.live
    live.add_project(f"unwanted-{uuid4().hex}")
    attempt = way(scene, point)
    crashing.points.wait(point)
    rude, offset = write_rudely(live, attempt.epoch)
    crashing.kill(victim)
    crashing.points.release()
    if attempt.paused is not None:
        with suppress(ProcessLookupError):
            os.kill(attempt.paused, signal.SIGCONT)
    crashing.wait_up()

    ended = wait_ended(scene)
    assert_sound(scene, attempt, ended, rude, offset)
    if ended["kind"] == "undo" and ended["state"] != "restored":
        scene.undo()
        assert live.digest() == attempt.replaced
    if request.config.getoption("--all-faults"):
        scene.restore()


@pytest.mark.parametrize("to", ["another one of the same key", "half of it"])
def test_an_archive_that_changes_while_it_is_read_is_not_restored(scene: Scene, to: str) -> None:
    """It was asked for, the service is about to read it, and then the object is replaced."""
    stored = scene.live.stack.state / "backups" / object_name(scene.backup["backup_id"])
    kept = stored.read_bytes()
    attempt = scene.attempt()
    scene.crashing.points.arm("restore.step.load")
    scene.ask()
    scene.crashing.points.wait("restore.step.load")
    rude, offset = write_rudely(scene.live, attempt.epoch)
    changed = kept[: len(kept) // 2] if to == "half of it" else encrypted_anew(kept, scene.key)
    stored.write_bytes(changed)
    try:
        scene.crashing.points.release()
        ended = wait_ended(scene)
    finally:
        stored.write_bytes(kept)
    assert ended["state"] == "failed", ended
    expected = {ArchiveTruncated, ArchiveDamaged} if to == "half of it" else {ArchiveAltered}
    assert ended["error"]["code"] in {error.code for error in expected}
    assert_sound(scene, attempt, ended, rude, offset)


def encrypted_anew(archive: bytes, key_file: str) -> bytes:
    """Return an archive with the same content for the same key, in another encryption."""
    identity, target = KeyFile.parse(key_file).identity, io.BytesIO()
    writer = EncryptWriter(target, [identity.to_recipient()])
    writer.write(DecryptReader(io.BytesIO(archive), [identity]).read())
    writer.close()
    return target.getvalue()


def test_the_next_restore_works(scene: Scene) -> None:
    """Each of those before began one, too, and most of them came about."""
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
    # Those of a backup and its key, of a rehearsal, and (test_schedule_replicas.py) of the schedule.
    elsewhere = ("backup.", "rehearsal.", "keys.", "schedule.", "configuration.")
    others = {name for name in CrashPoint.declared if name.startswith(elsewhere)}
    assert {name for name, _ in ways()} == set(CrashPoint.declared) - others
