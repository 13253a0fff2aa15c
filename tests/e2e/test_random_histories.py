"""The promise itself: whatever was written, and whenever the backup was taken, while writing went on,
a restore gives exactly what the log says the instance was at the backup's offset.

The log is folded by the model of ``tests/model``, which shares no code with the product; the rows
of every table are compared. One instance lives through all examples: each begins on what the
restores before left.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import EpochChanged
from shared.instance import events as ie
from shared.instance.fold import LoggedEvent
from shared.instance.keyring import RootKey, check_value_of
from shared.instance.reading import ACTOR, EPOCH
from shared.instance.stored import Written
from shared.instance.writer import NewEvent
from shared.kafka import Kafka, LogReader
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS
from tests.model import differences, read_tables
from tests.model.growing import GrowingModel
from tests.plugins.hypothesis_profile import scaled
from tests.plugins.live import Live
from tests.strategies import histories

_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What no CloudEvents attribute may hold: the writer refuses it, and a test of its own says so.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# So long the writer beside a backup waits between two events, in seconds.
PAUSE_S = 0.02
_SALT = UUID("5f0b1d5e-8a06-4a5c-9f5c-02c1b3c0b7aa")


@dataclass
class World:
    """The instance of this module, its log as read so far, and what the model makes of it."""

    live: Live
    model: GrowingModel
    reader: LogReader
    kafka: Kafka
    next_offset: int = 0
    examples: int = 0
    while_writing: int = 0
    """Of how many examples the backup lies between two events of the writer beside it."""

    def read_on(self) -> None:
        """Feed the model with what the log has got since."""
        with self.kafka.admin() as admin:
            end = admin.last_stable_offset(self.kafka.topic(INSTANCE_EVENTS))
        while self.next_offset < end:
            batch = self.reader.poll(2000, 0.2)
            self.next_offset = batch.next_offset
            for record in batch.records:
                event = logged(record.offset, CloudEvent.from_kafka(record))
                self.model.apply(event.offset, event)


def logged(offset: int, message: CloudEvent) -> LoggedEvent:
    """Return an event of the log as the model takes it."""
    return LoggedEvent(
        offset=offset,
        event_id=message.id,
        type=message.type,
        time=message.time,
        actor=message.extensions.get(ACTOR, ""),
        epoch=int(message.extensions.get(EPOCH, "0")),
        event=ie.decode(message.type, message.data),
    )


@pytest.fixture(scope="module")
def world(empty_live: Live) -> Iterator[World]:
    position = empty_live.position()
    assert position.cluster_id is not None
    assert position.topic_id is not None
    kafka = empty_live.kafka()
    with kafka.log_reader(kafka.topic(INSTANCE_EVENTS)) as reader:
        reader.seek(0)
        model = GrowingModel((position.cluster_id, position.topic_id))
        yield World(empty_live, model, reader, kafka)


def of_this_instance(event: ie.InstanceEvent, example: int, root: RootKey) -> ie.InstanceEvent:
    """Return ``event`` with ids of this example's own and data keys that this place can open."""

    def salted(found: re.Match[bytes]) -> bytes:
        return str(uuid5(_SALT, f"{example}/{found[0].decode()}")).encode()

    own = ie.decode(event.TYPE, _UUID.sub(salted, ie.encode(event)))
    if isinstance(own, ie.KeyringKeyAdded):
        key = data_key(own.id)
        changed = {
            "root_key_id": root.id,
            "wrapped": root.wrap(key),
            "check_value": check_value_of(key),
        }
        return own.model_copy(update=changed)
    if isinstance(own, ie.KeyringRewrapped):
        wrapped = {identity: root.wrap(data_key(identity)) for identity in own.wrapped}
        return own.model_copy(update={"root_key_id": root.id, "wrapped": wrapped})
    return own


def data_key(identity: UUID) -> bytes:
    return hashlib.sha256(identity.bytes).digest()


def write(live: Live, events: list[NewEvent]) -> Written | None:
    """Write as a platform service does that has seen every restore so far."""
    try:
        return live.platform.writer.append_all(events)
    except EpochChanged:
        return live.platform.writer.append_all(events)


class KeepsWriting(threading.Thread):
    """Writes a history, one event after another, while a backup is made; then what is left of it."""

    def __init__(self, live: Live, events: list[NewEvent]) -> None:
        super().__init__(daemon=True)
        self._live, self._events = live, events
        self.backup_made = threading.Event()
        self.error: Exception | None = None
        self.offsets: list[int] = []

    def run(self) -> None:
        try:
            left = list(self._events)
            while left and not self.backup_made.wait(PAUSE_S):
                self._write([left.pop(0)])
            self._write(left)
        except Exception as error:
            self.error = error

    def _write(self, events: list[NewEvent]) -> None:
        written = write(self._live, events)
        if written is not None:
            self.offsets.append(written.offset)


@pytest.mark.timeout(1800)
@settings(
    max_examples=scaled(200),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(history=histories(gaps=False), moment=st.floats(0, 1))
def test_a_restore_gives_what_the_log_says_the_instance_was_at_the_backup(
    world: World, history: list[LoggedEvent], moment: float
) -> None:
    live, root = world.live, world.live.platform.root_key
    world.examples += 1
    events = [
        NewEvent(
            of_this_instance(found.event, world.examples, root),
            actor=_CONTROL.sub("?", found.actor),
            time=found.time,
        )
        for found in history
    ]
    cut = int(len(events) * moment)
    write(live, events[:cut])
    writer = KeepsWriting(live, events[cut:])
    writer.start()
    try:
        backup, key = live.backup()
    finally:
        writer.backup_made.set()
        writer.join()
    assert writer.error is None, writer.error
    if writer.offsets and writer.offsets[0] < backup["offset"] <= writer.offsets[-1]:
        world.while_writing += 1
    restored = live.restore(backup, key)
    assert restored["state"] == "restored", restored

    world.read_on()
    at_backup = world.model.at(backup["offset"])
    with live.admin() as conn:
        found = read_tables(conn)
    assert differences(at_backup.state.rows, found) == []
    assert differences(world.model.state.rows, found) == []
    assert live.position().epoch == world.model.epoch


def test_backups_were_taken_while_events_were_written(world: World) -> None:
    """What the property above is worth: as many as that, on a machine that is busy, too."""
    print(f"{world.while_writing} of {world.examples} backups lie between two events of the writer")
    assert world.while_writing >= world.examples // 4, (world.while_writing, world.examples)
    assert world.while_writing
