"""Where a sample's ids, times and choices come from: a seed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, Protocol, TypeVar
from uuid import UUID

from shared.instance.events import InstanceEvent
from shared.instance.keyring import Kind
from shared.instance.sample import names
from shared.instance.writer import NewEvent

T = TypeVar("T")

FIRST_DAY: Final = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Seal(Protocol):
    """Seal a plaintext for the one place that it belongs to."""

    def __call__(self, value: bytes, kind: Kind, owner: UUID | str, version: int) -> bytes:
        """Return the sealed bytes."""


class Source:
    """One copy of the sample: its randomness, its clock, its sealer."""

    def __init__(self, seed: int, copy: int, seal: Seal) -> None:
        self.copy = copy
        self.tail = names.suffix(seed, copy)
        # A string seeds through SHA-512, the same on every machine and version.
        self.rng = Random(f"secryn sample {seed}/{copy}")  # noqa: S311 - it shall repeat
        self.seal = seal
        self._time = FIRST_DAY + timedelta(days=copy % 300)

    def uuid(self) -> UUID:
        """Return the next id."""
        return UUID(int=self.rng.getrandbits(128), version=4)

    def chance(self, probability: float) -> bool:
        """Return True as often as ``probability`` says."""
        return self.rng.random() < probability

    def some(self, items: Sequence[T], share: float) -> list[T]:
        """Return that share of ``items``, at least one, in their order."""
        count = max(1, round(len(items) * share))
        chosen = sorted(self.rng.sample(range(len(items)), min(count, len(items))))
        return [items[index] for index in chosen]

    @property
    def now(self) -> datetime:
        """Return the time of the last event."""
        return self._time

    def draft(self, event: InstanceEvent, actor: str = "sample") -> NewEvent:
        """Wrap ``event`` with the next id and a time a little later than the last."""
        self._time += timedelta(milliseconds=self.rng.randint(1, 90_000))
        return NewEvent(event, actor, self._time, self.uuid())
