"""kill -9 at every point of a backup, of its end, and of its key's way to the one who views it.

A backup ends created, proven and with a key that opens it, or not at all, with nothing left. A key
is given once, and never lost on the way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

import pytest

import backup_service.app  # noqa: F401 - it imports whatever declares a point
from backup_service import events as ev
from backup_service.context import object_name, receipt_name
from shared.archive.age import HybridIdentity, open_sealed
from shared.archive.keyfile import KeyFile
from shared.archive.verify import verify_archive
from shared.crashpoints import CrashPoint
from shared.errors import KeyAlreadyViewed, KeyNotReady, UnavailableError
from shared.messages.topics import AUDIT, BACKUP_EVENTS
from tests.documents import plain
from tests.plugins.faults import Crashing, one_or_all
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live

VICTIMS: Final = ("backup", "postgres", "backup", "kafka", "backup", "projector", "backup", "all")
ENDS_WITHIN_S: Final = 30.0


@dataclass
class View:
    """One request for a key; it may be repeated."""

    backup_id: str
    identity: HybridIdentity = field(default_factory=HybridIdentity.generate)
    request_id: str = field(default_factory=lambda: str(uuid4()))

    def ask(self, live: Live) -> str:
        """Return the key file's text."""
        body = {
            "request_id": self.request_id,
            "recipient": self.identity.to_recipient().encode(),
        }
        connection = live.services.backups.connection
        answer = connection.call("POST", f"/api/v1/backups/{self.backup_id}/key", body)
        return open_sealed(bytes.fromhex(answer["sealed_key"]), [self.identity], 65536).decode()


@dataclass
class Scene:
    """What a backup is asked of."""

    crashing: Crashing

    @property
    def live(self) -> Live:
        return self.crashing.live

    def ask(self) -> None:
        """Ask for a backup; whoever answers may die of it."""
        in_thread(lambda: self.live.services.backups.create("a test"))

    def backup_id(self) -> str:
        """Return the id of the last request."""
        with self.live.admin() as conn:
            row = conn.execute(
                "SELECT backup_id FROM backup.backups ORDER BY requested_position DESC LIMIT 1"
            ).fetchone()
        assert row is not None
        return str(row[0])

    def stop_then(self, first: str, point: str, meanwhile: Callable[[], object]) -> None:
        """Stop at ``first``, do something, and let go on to ``point``."""
        points = self.crashing.points
        points.arm(first)
        self.ask()
        points.wait(first)
        meanwhile()
        points.arm(point)
        points.release(first)

    def wait_relayed(self) -> None:
        """Wait until everything that was said is published."""

        def relayed() -> bool:
            with self.live.admin() as conn:
                row = conn.execute(
                    "SELECT (SELECT max(position) FROM backup.events) = position FROM backup.relay"
                ).fetchone()
            return bool(row and row[0])

        eventually(relayed, "everything is published", ENDS_WITHIN_S)


def in_thread(ask: Callable[[], object]) -> None:
    def body() -> None:
        with suppress(UnavailableError):
            ask()

    threading.Thread(target=body, daemon=True).start()


# How a point is come by


def created(scene: Scene, point: str) -> View | None:
    scene.crashing.points.arm(point)
    scene.ask()
    return None


def cancelled(scene: Scene, point: str) -> View | None:
    scene.stop_then(
        "backup.write.committed",
        point,
        lambda: scene.live.services.backups.cancel(scene.backup_id()),
    )
    return None


def abandoned(scene: Scene, point: str) -> View | None:
    """Its process dies in the middle, and the next one ends it: there it is stopped."""

    def die() -> None:
        scene.crashing.points.arm(point)
        scene.crashing.kill("backup")

    scene.stop_then("backup.write.uncommitted", point, die)
    return None


def published(scene: Scene, point: str) -> View | None:
    scene.stop_then("backup.announce.uncommitted", point, scene.wait_relayed)
    return None


def viewed(scene: Scene, point: str) -> View | None:
    backups = scene.live.services.backups
    backup = backups.wait(backups.create("a test")["backup_id"])
    assert backup["state"] == "created", backup["error"]
    view = View(backup["backup_id"])
    scene.crashing.points.arm(point)
    in_thread(lambda: view.ask(scene.live))
    return view


Way = Callable[[Scene, str], View | None]

# Where a name begins like this, the point is come by so; the longest such beginning counts.
WAYS: Final[dict[str, Way]] = {
    "backup.": created,
    "backup.fail.": cancelled,
    "backup.recover.": abandoned,
    "backup.view.": viewed,
    "keys.kek.": created,
    "keys.kek.overwritten": viewed,
    "relay.": published,
}


# What a person or a rule decides about a backup that is there, not about one that is made: a process
# dies at each of these in tests/integration/test_purge.py; or what is read back, and made anew:
# tests/faults/test_verification_killed.py.
ELSEWHERE: Final = (
    "backup.hold.", "backup.purge.", "backup.retention.",
    "backup.verify.", "backup.verification.", "backup.rebuild.",
)  # fmt: skip


def ways() -> list[tuple[str, Way]]:
    """Return every declared point of a backup with the way to it."""
    found: list[tuple[str, Way]] = []
    for name in sorted(CrashPoint.declared):
        beginnings = [start for start in WAYS if name.startswith(start)]
        if beginnings and not name.startswith(ELSEWHERE):
            found.append((name, WAYS[max(beginnings, key=len)]))
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
    return Scene(crashing)


@pytest.fixture(autouse=True)
def let_go(crashing: Crashing) -> None:
    crashing.points.release()
    crashing.rest()


def test_whatever_dies_it_ends_whole_or_leaves_nothing(
    scene: Scene, point: str, way: Way, victim: str
) -> None:
    crashing, live = scene.crashing, scene.live
    digest = live.digest()
    view = way(scene, point)
    crashing.points.wait(point)
    crashing.kill(victim)
    crashing.points.release()
    crashing.wait_up()

    ended = wait_ended(scene)
    assert ended["state"] == "created" or view is None
    said_once(scene, ended)
    if ended["state"] == "created":
        assert ended["digest"] == digest
        assert_key(scene, ended, view or View(ended["backup_id"]))
    else:
        with pytest.raises(KeyNotReady):
            View(ended["backup_id"]).ask(live)
    nothing_is_left(scene)


def wait_ended(scene: Scene) -> Json:
    backup_id = scene.backup_id()

    def look() -> Json | None:
        with suppress(UnavailableError):
            found = scene.live.services.backups.get(backup_id)
            return plain(found) if found["state"] in ev.ENDED else None
        return None

    found: Json = eventually(look, f"{backup_id} ends", ENDS_WITHIN_S)
    return found


def said_once(scene: Scene, ended: Json) -> None:
    """Check that its one end is published, once."""
    scene.wait_relayed()
    ends = {ev.CREATED, ev.FAILED, ev.CANCELLED}
    said = [
        event.type.removeprefix(ev.PREFIX)
        for event in scene.live.messages(BACKUP_EVENTS)
        if event.type in ends and ended["backup_id"].encode() in event.data
    ]
    assert said == [f"{ended['state']}.v1"]


def assert_key(scene: Scene, backup: Json, view: View) -> None:
    """Check that the key is given, to one, as often as that one asks, and that it opens the file."""
    live, backup_id = scene.live, backup["backup_id"]
    text = view.ask(live)
    assert view.ask(live) == text
    with pytest.raises(KeyAlreadyViewed):
        View(backup_id).ask(live)
    key = KeyFile.parse(text)
    with (live.stack.state / "backups" / object_name(backup_id)).open("rb") as source:
        found = verify_archive(source, [key.identity])
    assert (found.manifest.digest, found.sha256) == (backup["digest"], backup["sha256"])
    with live.admin() as conn:
        rows = conn.execute(
            "SELECT type FROM backup.events WHERE stream = %s", (ev.stream_of(backup_id),)
        ).fetchall()
    assert [row[0] for row in rows].count(ev.KEY_VIEWED) == 1


def nothing_is_left(scene: Scene) -> None:
    """Compare what lies about with what the history names."""
    live, state = scene.live, scene.live.stack.state

    def only_what_is_named() -> bool:
        backups = live.services.backups.list()["backups"]
        made = [b["backup_id"] for b in backups if b["state"] == "created"]
        waiting = {f"{b['backup_id']}.kek" for b in backups if b["key_state"] == "waiting"}
        stored = {
            name for made_id in made for name in (object_name(made_id), receipt_name(made_id))
        }
        objects = {path.name for path in (state / "backups").iterdir()}
        keys = {path.name for path in (state / "keks").iterdir()}
        return (objects, keys) == (stored, waiting)

    eventually(only_what_is_named, "only what the history names is there", 40)
    eventually(lambda: not open_snapshots(live), "nothing holds vacuum back")


def open_snapshots(live: Live) -> int:
    with live.admin() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'secryn_backup' "
            "AND (backend_xmin IS NOT NULL OR state LIKE 'idle in transaction%')"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_next_backup_works(scene: Scene) -> None:
    backup, key = scene.live.backup()
    assert backup["digest"] == scene.live.digest()
    assert KeyFile.parse(key).sha256 == backup["sha256"]


@pytest.mark.parametrize("topic", [BACKUP_EVENTS, AUDIT])
def test_nothing_was_published_twice_and_nothing_never(scene: Scene, topic: str) -> None:
    scene.wait_relayed()
    with scene.live.admin() as conn:
        rows = conn.execute("SELECT event_id FROM backup.events WHERE topic = %s", (topic,))
        stored = {row[0] for row in rows}
    ids = [event.id for event in scene.live.messages(topic)]
    assert stored <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_point_is_reached_by_something() -> None:
    ours = {
        name for name in CrashPoint.declared if name.startswith(("backup.", "relay.", "keys.kek."))
    }
    assert {name for name, _ in ways()} == {n for n in ours if not n.startswith(ELSEWHERE)}
