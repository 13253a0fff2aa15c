"""A restore that something happens to, and what must be true of it afterwards, whatever it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from cli.platform import platform
from restore_service import events as ev
from restore_service.staging import before_name
from shared.errors import UnavailableError
from shared.instance import events as ie
from shared.instance.reading import ACTOR, EPOCH
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS
from tests.documents import plain
from tests.plugins.faults import Crashing
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live, stable_end

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
        self._in_thread(
            lambda: plain(
                self.live.services.restores.undo(
                    target_instance_id=self.live.instance_id, reason="a test"
                )
            )
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

    def undo(self) -> None:
        restores = self.live.services.restores
        asked = restores.undo(target_instance_id=self.live.instance_id, reason="a test")
        ended = restores.wait(asked["restore_id"])
        assert ended["state"] == "restored", ended

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

        eventually(relayed, "everything is published", ENDS_WITHIN_S)

    def stop_then(self, first: str, point: str, meanwhile: Callable[[], object]) -> None:
        """Stop at ``first``, do something, and let go on to ``point``."""
        points = self.crashing.points
        points.arm(first)
        self.ask()
        points.wait(first)
        meanwhile()
        points.arm(point)
        points.release(first)


def write_rudely(live: Live, epoch: int) -> tuple[str, int]:
    """Append an event without a look at any fence; return what it names and its offset."""
    name = f"rude-{uuid4()}"
    event = ie.SettingSet(name=name, value={})
    message = CloudEvent(
        type=event.TYPE,
        source="/rude",
        data=ie.encode(event),
        extensions={EPOCH: str(epoch), ACTOR: "rude"},
    )
    kafka = live.kafka("platform")
    with kafka.producer() as producer:
        return name, producer.send_sync(kafka.topic(INSTANCE_EVENTS), message.to_kafka())


def wait_ended(scene: Scene) -> Json:
    restore_id = scene.restore_id()

    def look() -> Json | None:
        with suppress(UnavailableError):
            found = scene.live.services.restores.get(restore_id)
            return plain(found) if found["state"] in ev.ENDED else None
        return None

    found: Json = eventually(look, f"{restore_id} ends", ENDS_WITHIN_S)
    return found


def said_once(scene: Scene, attempt: Attempt, ended: Json) -> int:
    """Check what the log says of it; return the fence's offset, or where the log ended."""
    live, restored = scene.live, ended["state"] == "restored"
    with live.admin() as conn:
        rows = conn.execute(
            "SELECT type, topic FROM restore.events WHERE stream = %s ORDER BY position",
            (ev.stream_of(ended["restore_id"]),),
        ).fetchall()
    stored = [kind for kind, topic in rows if topic == INSTANCE_EVENTS]
    told = [kind for kind, _ in rows]
    assert told.count(ev.NOTICE_GIVEN) == told.count(ev.NOTICE_OVER) <= 1
    scene.wait_relayed()
    said = announced(live, attempt.position, ended["restore_id"])
    kinds = [kind for _, kind in said]
    assert kinds == stored, (kinds, stored)
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
        for batch in reader.between(start, stable_end(admin, topic)):
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


def assert_sound(scene: Scene, attempt: Attempt, ended: Json, rude: str, offset: int) -> None:
    """Compare all that there is with what must be after a restore that ended like this."""
    restored = ended["state"] == "restored"
    fence = said_once(scene, attempt, ended)
    present = offset < fence if attempt.rolls_forward and restored else not restored
    assert_digest(scene.live, attempt.replaced if restored else attempt.kept, rude, present)
    nothing_is_left(scene)
    if restored:
        report = eventually(
            lambda: scene.live.services.restores.get(ended["restore_id"])["voided"],
            "what it made void is counted",
        )
        end = announced(scene.live, attempt.position, ended["restore_id"])[-1][0]
        # Behind the end it is void by its epoch, and nothing that this restore made so.
        assert ("rude" in report["by_actor"]) == (fence < offset < end)
