"""kill -9 between any two steps of a warning, an expiry, a viewing and a taking of a key.

A process of its own does it, is stopped at the point and killed; another one does it after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from backup_service import events as ev
from backup_service.context import BackupContext
from backup_service.handlers.view_key import ViewKey, view_key
from backup_service.handlers.watch_keys import watch_keys
from serving.requester import Requester
from shared.archive.age import HybridIdentity, open_sealed
from shared.client import KeyRequest, take_key
from shared.crashpoints import ENV, CrashPoint
from shared.errors import KeyAlreadyViewed, KeyExpired
from tests import forked
from tests.clock import HandClock
from tests.keeping import KEY, created, offline_context, own
from tests.plugins.faults import Points
from tests.plugins.postgres import TestPostgres

VIEWER: Final = Requester("anna", frozenset({"view_key"}), "test", "corr-2", unattended=True)
REQUEST: Final = UUID("8a0a6f9e-0f5e-4e0f-9b70-3c3c2a0f6f11")
IDENTITY: Final = HybridIdentity(bytes(range(32)))
forked.preload(__name__)

WATCHED: Final = sorted(
    name for name in CrashPoint.declared if name.startswith(("keys.warn.", "keys.expire."))
)
TAKEN: Final = sorted(name for name in CrashPoint.declared if name.startswith("keys.take."))
VIEWED: Final = sorted(name for name in CrashPoint.declared if name.startswith("backup.view."))


@dataclass(frozen=True)
class Place:
    """Where a process works, and at what time."""

    dsn: str
    folder: Path
    now: datetime

    def open(self) -> BackupContext:
        return offline_context(self.dsn, self.folder, HandClock(self.now))


def watch(place: Place, points: str | None) -> None:
    """Look at what is due, once."""
    _stop_at(points)
    watch_keys(place.open())


def view(place: Place, points: str | None, backup_id: str) -> None:
    """View the key; its answer is lost."""
    _stop_at(points)
    view_key(place.open(), backup_id, _command(), VIEWER)


def take(place: Place, points: str | None, backup_id: str, target: Path) -> None:
    """Take the key into a file."""
    _stop_at(points)
    context = place.open()

    def ask(one: str, request: KeyRequest) -> str:
        return request.open(view_key(context, one, ViewKey(**request.body()), VIEWER))

    take_key(ask, backup_id, target)


def _stop_at(points: str | None) -> None:
    if points is not None:
        os.environ[ENV] = points


def _command(request_id: UUID = REQUEST) -> ViewKey:
    return ViewKey(request_id=request_id, recipient=IDENTITY.to_recipient().encode())


@dataclass
class Scene:
    """One place whose processes are killed."""

    place: Place
    points: Points
    context: BackupContext
    backup_id: str

    def at(self, now: datetime) -> Place:
        return Place(self.place.dsn, self.place.folder, now)

    def killed_at(self, point: str, work: Callable[..., None], *arguments: object) -> None:
        """Kill a process that does ``work`` at a point."""
        self.points.arm(point)
        process = forked.start(work, *arguments)
        self.points.wait(point)
        forked.kill(process)
        self.points.release()

    def told(self) -> list[str]:
        with self.context.pool.connection() as conn:
            stream = self.context.store.read_stream(conn, ev.stream_of(self.backup_id))
        return [event.type for event in stream]

    def keks(self) -> list[str]:
        return [path.name for path in self.context.settings.keys.folder.iterdir()]


@pytest.fixture
def scene(postgres: TestPostgres, tmp_path: Path) -> Iterator[Scene]:
    folder = tmp_path / "points"
    folder.mkdir()
    clock = HandClock()
    place = Place(postgres.fresh_place().dsn("secryn_backup"), tmp_path, clock.now())
    context = offline_context(place.dsn, tmp_path, clock)
    backup_id = created(context)
    clock.pass_(seconds=1)
    own(context)
    yield Scene(place, Points(folder), context, backup_id)
    context.pool.close()


@pytest.mark.parametrize("point", WATCHED)
def test_a_watch_that_dies_is_ended_by_the_next_and_nothing_is_said_twice(
    scene: Scene, point: str
) -> None:
    warned_at = scene.place.now + timedelta(days=7, hours=-5)
    expires_at = scene.place.now + timedelta(days=7)
    expiring = point.startswith("keys.expire.")
    if expiring:
        watch(scene.at(warned_at), None)
    now = scene.at(expires_at if expiring else warned_at)
    scene.killed_at(point, watch, now, str(scene.points.folder))
    for _ in range(2):
        watch(now, None)
    assert scene.told().count(ev.KEY_EXPIRING) == 2
    assert scene.told().count(ev.KEY_EXPIRED) == int(expiring)
    assert scene.keks() == ([] if expiring else [f"{scene.backup_id}.kek"])
    if expiring:
        with pytest.raises(KeyExpired):
            view_key(scene.context, scene.backup_id, _command(), VIEWER)
    else:
        assert opened(scene) == KEY


@pytest.mark.parametrize("point", [*VIEWED, "keys.kek.overwritten"])
def test_a_viewing_that_dies_gives_the_key_to_the_same_request_and_to_no_other(
    scene: Scene, point: str
) -> None:
    folder = str(scene.points.folder)
    scene.killed_at(point, view, scene.place, folder, scene.backup_id)
    assert opened(scene) == KEY
    with pytest.raises(KeyAlreadyViewed):
        view_key(scene.context, scene.backup_id, _command(UUID(int=1)), VIEWER)
    watch_keys(scene.context)
    assert scene.told().count(ev.KEY_VIEWED) == 1
    assert scene.keks() == []


@pytest.mark.parametrize("point", [*TAKEN, *VIEWED])
def test_whoever_is_stopped_taking_a_key_into_a_file_has_it_after_the_same_call(
    scene: Scene, point: str, tmp_path: Path
) -> None:
    target = tmp_path / "taken" / "backup.key"
    target.parent.mkdir()
    scene.killed_at(point, take, scene.place, str(scene.points.folder), scene.backup_id, target)
    take(scene.place, None, scene.backup_id, target)
    assert target.read_text() == KEY
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(target.parent.iterdir()) == [target]
    assert scene.told().count(ev.KEY_VIEWED) == 1


def opened(scene: Scene) -> str:
    """Return the key, asked for by the same request."""
    answer = view_key(scene.context, scene.backup_id, _command(), VIEWER)
    return open_sealed(bytes.fromhex(answer["sealed_key"]), [IDENTITY], 65536).decode()


def test_every_point_of_a_key_is_reached_by_something() -> None:
    # Those of the key-encryption keys by a whole stack, too: tests/faults/test_backup_crash.py.
    others = {"keys.kek.written", "keys.kek.overwritten"}
    assert {name for name in CrashPoint.declared if name.startswith("keys.")} == {
        *WATCHED, *TAKEN, *others,
    }  # fmt: skip
