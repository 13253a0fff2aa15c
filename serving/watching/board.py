"""One thread looks for all watchers: each thing that is watched is read once for each change.

What a watcher sees is the thing's document as it is now, under a tag: the position of its last
event in the event store, which survives everything, and a count of the progress that this process
knows of it, which does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from serving.progress import ProgressBoard
from shared.database import Connection, Pool, postgres_faults
from shared.errors import NotFoundError, SecrynError, UnavailableError, WatchersBusy
from shared.eventstore import EventStore

log = structlog.get_logger(__name__)

# Four times a second: what a person sees as moving.
LOOK_S: Final = 0.25
RETRY_S: Final = 1.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """A thing to watch: its stream, its id on the board of progress, how to read it, when it ends.

    What is no stream of the event store says by itself at which ``position`` it last changed.
    """

    stream: str
    identity: str
    load: Callable[[Connection], Json]
    ended: Callable[[Json], bool]
    position: Callable[[Connection], int] | None = None


@dataclass(frozen=True)
class Seen:
    """A thing as it was at one moment; ``position`` is that of its last event."""

    position: int
    tick: int
    document: Json
    ended: bool

    @property
    def tag(self) -> str:
        """Return what changes whenever the thing does."""
        return f"{self.position}.{self.tick}"


@dataclass
class _Topic:
    thing: Watched
    seen: Seen
    watchers: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


class Watch:
    """One watcher's view of one thing."""

    def __init__(self, board: WatchBoard, topic: _Topic) -> None:
        self._board = board
        self._topic = topic

    @property
    def now(self) -> Seen:
        """Return the thing as it was last seen."""
        return self._topic.seen

    def wait(self, tag: str | None, timeout_s: float) -> Seen:
        """Return the thing when its tag is not ``tag`` any more, at the latest in ``timeout_s``."""
        topic = self._topic
        with topic.changed:
            topic.changed.wait_for(
                lambda: topic.seen.tag != tag or self._board.closed, max(0.0, timeout_s)
            )
        return topic.seen


class WatchBoard:
    """Everything that is watched at this moment, for at most ``slots`` watchers at once."""

    def __init__(
        self, store: EventStore, pool: Pool, progress: ProgressBoard, *, slots: int
    ) -> None:
        self._store = store
        self._pool = pool
        self._progress = progress
        self._slots = threading.BoundedSemaphore(slots)
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self.closed = False

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``; then every watcher is let go."""
        pause_s = LOOK_S
        while not stop.wait(pause_s):
            try:
                self._look()
                pause_s = LOOK_S
            except UnavailableError as error:
                log.warning("watching.interrupted", code=error.code, reason=error.message)
                pause_s = RETRY_S
        self.closed = True
        for topic in self._watched():
            with topic.changed:
                topic.changed.notify_all()

    def see(self, thing: Watched) -> Seen:
        """Return a thing as it is now. Raises what reading it raises."""
        with postgres_faults("looking at what is watched"), self._pool.connection() as conn:
            return self._read(conn, thing)

    @contextmanager
    def watching(self, thing: Watched) -> Iterator[Watch]:
        """Watch a thing during the block. Raises WatchersBusy, and what reading it raises."""
        if self.closed or not self._slots.acquire(blocking=False):
            raise WatchersBusy("too many watch at once")
        try:
            topic = self._join(thing)
            try:
                yield Watch(self, topic)
            finally:
                self._leave(topic)
        finally:
            self._slots.release()

    def _join(self, thing: Watched) -> _Topic:
        seen = self.see(thing)
        with self._lock:
            topic = self._topics.setdefault(thing.stream, _Topic(thing, seen))
            topic.watchers += 1
        return topic

    def _leave(self, topic: _Topic) -> None:
        with self._lock:
            topic.watchers -= 1
            if not topic.watchers:
                del self._topics[topic.thing.stream]

    def _watched(self) -> list[_Topic]:
        with self._lock:
            return list(self._topics.values())

    def _look(self) -> None:
        topics = self._watched()
        if not topics:
            return
        with postgres_faults("looking at what is watched"), self._pool.connection() as conn:
            positions = self._positions(conn, [topic.thing for topic in topics])
            for topic in topics:
                thing, seen = topic.thing, topic.seen
                known = (seen.position, seen.tick)
                if (positions[thing.stream], self._progress.tick(thing.identity)) != known:
                    self._renew(conn, topic)

    def _positions(self, conn: Connection, things: list[Watched]) -> dict[str, int]:
        streams = [thing.stream for thing in things if thing.position is None]
        stored = self._store.positions(conn, streams) if streams else {}
        return {
            thing.stream: stored.get(thing.stream, 0)
            if thing.position is None
            else thing.position(conn)
            for thing in things
        }

    def _renew(self, conn: Connection, topic: _Topic) -> None:
        try:
            seen = self._read(conn, topic.thing)
        except (NotFoundError, UnavailableError):
            raise
        except SecrynError as error:
            log.error("watching.unreadable", stream=topic.thing.stream, code=error.code)
            return
        with topic.changed:
            topic.seen = seen
            topic.changed.notify_all()

    def _read(self, conn: Connection, thing: Watched) -> Seen:
        # The tag first: what changes in between is seen as another change.
        tick = self._progress.tick(thing.identity)
        position = self._positions(conn, [thing])[thing.stream]
        document = thing.load(conn)
        shown = document | self._progress.of(thing.identity)
        return Seen(position, tick, shown, thing.ended(document))


def remaining(deadline: float) -> float:
    """Return the seconds until ``deadline`` of the monotonic clock."""
    return max(0.0, deadline - time.monotonic())
