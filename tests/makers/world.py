"""What a random history has made so far, and how the next event draws from it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Final
from uuid import UUID

from shared.instance import events as ev
from shared.instance.fold import LoggedEvent
from tests.model import KEYS, Model, Row

Maker = Callable[["World", Random], ev.InstanceEvent]
MAKERS: dict[type[ev.InstanceEvent], Maker] = {}

POOL: Final = 5
# Names that meet each other again and again, and names that software trips over.
NAMES: Final = ("a", "b", "c", "A", "ä")
TRICKY: Final = (
    "a\u0308", "日本語", "🔑👩‍👩‍👧", "\u200b", " ", "a ", "'; DROP SCHEMA instance; --", "%s", "%(a)s", "{}", '"',
    "\\", "\\x00", "\n", "\t\r", "\x01", "\x7f", "NULL", "{NULL,a}", "İı", "ß", "\ufeff", "\ufffe",
    "\uffff", "\u202e", "𝒳" * 255, "é" * 255, "-1", "true", "\U0010ffff",
)  # fmt: skip
FIRST_DAY: Final = datetime(2026, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC)


class World:
    """What a history has made so far, and how to draw from it."""

    def __init__(self, log: tuple[str, str]) -> None:
        self.log = log
        self.model = Model(log)
        self.history: list[LoggedEvent] = []
        self.restored: list[UUID] = []

    def add(self, logged: LoggedEvent) -> None:
        """Append an event to the history."""
        self.history.append(logged)
        epoch = self.model.epoch
        self.model.apply(logged.offset, logged)
        if isinstance(logged.event, ev.Restored) and self.model.epoch != epoch:
            self.restored.append(logged.event.restore_id)

    # Draws

    def text(self, rng: Random) -> str:
        """Return a text without NUL, up to 255 characters, at times an empty one."""
        draw = rng.random()
        if draw < 0.5:
            return rng.choice(NAMES)
        if draw < 0.8:
            return rng.choice(TRICKY)
        if draw < 0.85:
            return ""
        return "".join(_character(rng) for _ in range(rng.choice((1, 2, 7, 30))))

    def name(self, rng: Random) -> str:
        """Return a name, often one that is taken."""
        return self.text(rng) or rng.choice(NAMES)

    def actor(self, rng: Random) -> str:
        """Return who writes: it travels in a header, where control characters are refused."""
        return "".join(c for c in self.text(rng) if c.isprintable()) or "nobody"

    def data(self, rng: Random) -> bytes:
        """Return bytes, at times none."""
        return rng.randbytes(rng.choice((0, 1, 16, 61, 200)))

    def time(self, rng: Random) -> datetime:
        """Return a time; the next one may lie before it, or be the same."""
        zone = rng.choice((UTC, UTC, timezone(timedelta(hours=5, minutes=45))))
        steps = timedelta(microseconds=rng.choice((0, 1, 999, 10**6, 10**12)) * rng.randint(-3, 9))
        return (FIRST_DAY + steps).astimezone(zone)

    def epoch(self, rng: Random) -> int:
        """Return the epoch of an event, now and then another than the log's."""
        return self.model.epoch if rng.random() < 0.93 else rng.choice((0, 1, 2, 3, 10**9))

    def row(self, table: str, rng: Random) -> Row:
        """Return a row that is there, or an empty one."""
        rows = list(self.model.state.rows[table].values())
        return rng.choice(rows) if rows else {}

    def known(self, table: str, rng: Random) -> UUID:
        """Return an id, mostly of a row that is there and alive."""
        rows = self.model.state.rows[table].values()
        alive = [row["id"] for row in rows if row.get("deleted_at") is None]
        if alive and rng.random() < 0.85:
            found: UUID = rng.choice(alive)
            return found
        return pooled(table, rng.randrange(POOL + 1))

    def marked(self, table: str, rng: Random) -> UUID:
        """Return an id, mostly of a row that is marked as deleted."""
        rows = self.model.state.rows[table].values()
        dead = [row["id"] for row in rows if row["deleted_at"] is not None]
        return rng.choice(dead) if dead and rng.random() < 0.8 else self.known(table, rng)

    def fresh(self, table: str, rng: Random) -> UUID:
        """Return an id, mostly one that has no row; ids of removed rows come again."""
        ids = [pooled(table, number) for number in range(POOL)]
        free = [key for key in ids if (key,) not in self.model.state.rows[table]]
        return rng.choice(free) if free and rng.random() < 0.85 else rng.choice(ids)

    def next_version(self, table: str, key: UUID, rng: Random) -> int:
        """Return a version number, mostly the one that comes next."""
        row = self.model.state.rows[table].get((key,))
        current = int(row["current_version"]) if row else 1
        return (
            current + 1 if rng.random() < 0.8 else rng.choice((1, current, current + 2, 2**31 - 1))
        )

    # Restores

    def restore_event(
        self, offset: int, cls: type[ev.InstanceEvent], rng: Random
    ) -> ev.InstanceEvent:
        """Return a restore event that fits the open fence, or, now and then, does not."""
        if cls is ev.RestoreStarted:
            number = self.model.highest_fence_no + rng.choice((1, 1, 1, 1, 2, 0, -1))
            return ev.RestoreStarted(
                restore_id=_random_id(rng), fence_no=max(1, number), backup_id=_random_id(rng)
            )
        number, restore_id, fence_offset = self.model.fence or (1, _random_id(rng), 0)
        wrong = rng.random()
        number += wrong < 0.06
        if 0.06 < wrong < 0.12:
            restore_id = _random_id(rng)
        if cls is ev.RestoreAborted:
            return ev.RestoreAborted(restore_id=restore_id, fence_no=number, reason=self.text(rng))
        undone = rng.choice(self.restored) if self.restored and rng.random() < 0.4 else None
        position = rng.randint(0, fence_offset)
        snapshot = rng.randint(0, position)
        return ev.Restored(
            restore_id=restore_id,
            fence_no=number,
            fence_offset=fence_offset + (0.12 < wrong < 0.18),
            epoch=self.model.epoch + 1,
            backup_id=_random_id(rng),
            source=None if undone else _source(self.log, snapshot, position),
            undo_of=undone,
        )


def _source(log: tuple[str, str], snapshot: int, position: int) -> ev.LogSource:
    return ev.LogSource(
        cluster_id=log[0], topic_id=log[1], snapshot_offset=snapshot, position=position
    )


def pooled(table: str, number: int) -> UUID:
    return UUID(int=((list(KEYS).index(table) + 1) << 64) | number)


def _random_id(rng: Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _character(rng: Random) -> str:
    code = rng.choice(
        (rng.randint(1, 0x2FF), rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x10FFFF))
    )
    return chr(code)


def made(cls: type[ev.InstanceEvent]) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        MAKERS[cls] = maker
        return maker

    return register


def of_known(cls: type[ev.InstanceEvent], table: str) -> None:
    MAKERS[cls] = lambda world, rng: cls.model_validate({"id": world.known(table, rng)})


def of_marked(cls: type[ev.InstanceEvent], table: str) -> None:
    MAKERS[cls] = lambda world, rng: cls.model_validate({"id": world.marked(table, rng)})
