"""How a platform service changes the instance.

    with InstanceWriter(kafka, pool, root_key, source="web", actor="anna") as writer:
        sealed = writer.seal(value, "secret", secret_id, 1)
        written = writer.append(SecretCreated(id=secret_id, sealed=sealed, ...))
        writer.wait_until_stored(written, timeout_s=5)

Every event carries the epoch that its writer read: a restore raises the epoch, and what was
prepared before it (under data keys that may be gone, from names that may be others) is refused
here with EpochChanged, once, and skipped by the fold if it slips through. While a fence is open
nothing is written; an event that slipped in behind it is void if the restore succeeds, and
``wait_until_stored`` says so.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self
from uuid import UUID, uuid4

from shared.database import Connection, Pool, postgres_faults
from shared.errors import (
    EpochChanged,
    FenceOpen,
    LogLost,
    ValueTooLarge,
)
from shared.instance.events import InstanceEvent, encode
from shared.instance.keyring import Kind, RootKey
from shared.instance.opener import OpenedSecret, SecretOpener
from shared.instance.position import LogPosition, read_position
from shared.instance.reading import ACTOR, EPOCH
from shared.instance.sealer import Sealer
from shared.instance.stored import Written, wait_until_stored
from shared.kafka import Kafka, OutgoingMessage, Producer
from shared.kafka.producer import Pending
from shared.messages import CloudEvent
from shared.messages.topics import INSTANCE_EVENTS

# Kafka's default limit of a record; what the client and the broker add to one stays below this.
MAX_RECORD_BYTES: Final = 1_048_576 - 1_024
# Records under way at once in a bulk write, and how often it looks at fence and epoch.
WINDOW_RECORDS: Final = 4_000
LOOK_INTERVAL_S: Final = 0.25
_POLL_S: Final = 0.02


@dataclass(frozen=True)
class NewEvent:
    """An event before it is written; what is None comes from the writer."""

    event: InstanceEvent
    actor: str | None = None
    time: datetime | None = None
    event_id: UUID | None = None


OnProgress = Callable[[int, int], None]


class _Window:
    """Records under way, so many at most; the oldest are waited for first."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._pending: deque[Pending] = deque()
        self._acknowledged = 0
        self._on_progress = on_progress
        self.last_offset: int | None = None

    def add(self, pending: Pending) -> None:
        self._pending.append(pending)
        if len(self._pending) >= WINDOW_RECORDS:
            # Half a window at once: the sender fills whole batches meanwhile.
            self._take(WINDOW_RECORDS // 2)

    def take_done(self) -> None:
        """Take what was acknowledged, without waiting."""
        count = 0
        while count < len(self._pending) and self._pending[count].done():
            count += 1
        self._take(count)

    def finish(self) -> None:
        """Wait for all that is under way."""
        self._take(len(self._pending))

    def _take(self, count: int) -> None:
        for _ in range(count):
            self.last_offset = self._pending.popleft().result().offset
        self._acknowledged += count
        if self._on_progress is not None and self.last_offset is not None:
            self._on_progress(self._acknowledged, self.last_offset)


class InstanceWriter:
    """Appends events of one platform service and opens secrets for it. One thread at a time."""

    def __init__(
        self,
        kafka: Kafka,
        pool: Pool,
        root_key: RootKey,
        *,
        source: str,
        actor: str,
    ) -> None:
        """Connect nothing yet; ``actor`` is who writes when an event names nobody."""
        self._kafka = kafka
        self._topic = kafka.topic(INSTANCE_EVENTS)
        self._pool = pool
        self._source = f"/secryn/{source}"
        self._actor = actor
        self._opener = SecretOpener(pool, root_key)
        self._sealer = Sealer(root_key)
        self._producer: Producer | None = None
        self._epoch: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the producer. The pool is its owner's."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def open_secret(self, path: str, version: int | None = None) -> OpenedSecret:
        """Open a secret; see SecretOpener.open."""
        return self._opener.open(path, version)

    def seal(self, value: bytes, kind: Kind, owner: UUID | str, version: int) -> bytes:
        """Seal ``value`` for the one place that it belongs to.

        The first value of a kind makes a data key and appends the event that adds it. Raises
        FenceOpen, EpochChanged, KafkaUnavailable, PostgresUnavailable.
        """
        self._prepare_key(kind)
        return self._sealer.seal(value, kind, owner, version)

    def _prepare_key(self, kind: Kind) -> None:
        if self._sealer.ready(kind):
            return
        self._enter_epoch(self._look())
        with self._connection() as conn:
            added = self._sealer.prepare(conn, kind)
        if added is not None:
            self.append(added)
            self._sealer.add(added)

    def rotate_data_key(self, kind: Kind) -> Written:
        """Seal what comes under a new data key, and retire the one before."""
        self._prepare_key(kind)
        added, retired = self._sealer.rotate(kind)
        self.append(added)
        self._sealer.add(added)
        return self.append(retired)

    def append(
        self, event: InstanceEvent, *, actor: str | None = None, wait_for_fence_s: float = 0.0
    ) -> Written:
        """Append one event and return where it stands.

        While a fence is open, wait up to ``wait_for_fence_s`` for its end. Raises FenceOpen,
        EpochChanged (a restore replaced the instance since this writer last looked: prepare the
        event anew), LogLost when it landed on a log that the store does not follow,
        ValueTooLarge, KafkaUnavailable, PostgresUnavailable.
        """
        row = self._look(wait_for_fence_s)
        epoch, event_id = self._enter_epoch(row), uuid4()
        message = self._message(NewEvent(event, actor), epoch, event_id)
        return _written(self._sender().send_sync(self._topic, message), row, event_id)

    def append_all(
        self, events: Iterable[NewEvent], on_progress: OnProgress | None = None
    ) -> Written | None:
        """Append many events in order, fast; return where the last one stands.

        Memory is bounded by what is under way, not by ``events``. ``on_progress`` gets the number
        of acknowledged events and the last one's offset, a few times a second and at the end,
        also when this raises. Raises as ``append`` does, without waiting for a fence; what was
        acknowledged before stays on the log.
        """
        window = _Window(on_progress)
        producer = self._sender()
        looked_at, row, event_id = float("-inf"), None, None
        try:
            for new in events:
                now = time.monotonic()
                if row is None or now - looked_at > LOOK_INTERVAL_S:
                    row = self._look()
                    self._enter_epoch(row)
                    looked_at = now
                    window.take_done()
                event_id = new.event_id or uuid4()
                message = self._message(new, row.epoch, event_id)
                window.add(producer.send(self._topic, message))
        finally:
            window.finish()
        if window.last_offset is None or row is None:
            return None
        return _written(window.last_offset, row, event_id)

    def append_together(self, events: Sequence[InstanceEvent], transactional_id: str) -> Written:
        """Append all of ``events`` or none, in one transaction; return where the last one stands.

        Whoever begins another with the same ``transactional_id`` ends one that is left open.
        Raises as ``append`` does, without waiting for a fence; ProducerFenced.
        """
        row = self._look()
        epoch = self._enter_epoch(row)
        ids = [uuid4() for _ in events]
        with (
            self._kafka.transactional_producer(transactional_id) as producer,
            producer.transaction(),
        ):
            pending = [
                producer.send(self._topic, self._message(NewEvent(event), epoch, event_id))
                for event, event_id in zip(events, ids, strict=True)
            ]
            # Acknowledged before the commit: none that failed may be left out of it.
            offsets = [sent.result().offset for sent in pending]
        return _written(offsets[-1], row, ids[-1])

    def wait_until_stored(self, written: Written, timeout_s: float) -> None:
        """Wait until the store has folded the event at ``written``; see ``stored``."""
        wait_until_stored(self._pool, written, timeout_s)

    def _look(self, wait_for_fence_s: float = 0.0) -> LogPosition:
        deadline = time.monotonic() + wait_for_fence_s
        while True:
            row = self._read_position()
            if not row.fenced:
                return row
            if time.monotonic() >= deadline:
                raise FenceOpen(f"restore {row.fence_restore_id} is replacing the instance")
            time.sleep(_POLL_S)

    def _enter_epoch(self, row: LogPosition) -> int:
        if self._epoch is not None and row.epoch != self._epoch:
            before, self._epoch = self._epoch, None
            self._sealer.drop()
            raise EpochChanged(f"the instance went from epoch {before} to {row.epoch}")
        self._epoch = row.epoch
        return row.epoch

    def _message(self, new: NewEvent, epoch: int, event_id: UUID) -> OutgoingMessage:
        data = encode(new.event)
        message = CloudEvent(
            type=new.event.TYPE,
            source=self._source,
            data=data,
            id=event_id,
            time=new.time or datetime.now(UTC),
            extensions={EPOCH: str(epoch), ACTOR: new.actor or self._actor},
        ).to_kafka()
        size = len(data) + sum(len(name) + len(raw) for name, raw in message.headers)
        if size > MAX_RECORD_BYTES:
            raise ValueTooLarge(
                f"the event has {size} bytes on the log, at most {MAX_RECORD_BYTES} go there"
            )
        return message

    def _sender(self) -> Producer:
        if self._producer is None:
            self._producer = self._kafka.producer()
        return self._producer

    def _read_position(self) -> LogPosition:
        with self._connection() as conn:
            return read_position(conn)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with postgres_faults("reading the store"), self._pool.connection() as conn:
            yield conn


def _written(offset: int, row: LogPosition, event_id: UUID | None) -> Written:
    """Return where an event stands that was written after ``row`` was read. Raises LogLost.

    A log is never shorter than the store that follows it.
    """
    if offset < row.position:
        raise LogLost(
            f"the event stands at offset {offset} of a log that the store, at offset"
            f" {row.position} of its own, does not follow"
        )
    return Written(offset, row.epoch, row.topic_id, event_id)
