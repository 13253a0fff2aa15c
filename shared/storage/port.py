"""The port to object storage. One contract suite holds every implementation to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Buffer

from shared.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class ObjectInfo:
    """An object that is there, whole; ``modified_at`` in seconds of Unix time."""

    name: str
    size_bytes: int
    modified_at: float


class ObjectWriter(Protocol):
    """An object being written. Nobody sees it before ``commit`` returned."""

    def write(self, data: Buffer, /) -> int:
        """Take ``data`` whole. Raises NoSpace, UnavailableError."""

    def commit(self) -> None:
        """Make the object visible under its name: whole, durable, never replacing another."""

    def abort(self) -> None:
        """Forget what was written. Harmless when it was committed or aborted before."""


class ObjectReader(Protocol):
    """An object being read, from where it was opened."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""


class ObjectStore(Protocol):
    """A flat space of named, immutable objects.

    Names are of letters, digits, ``.``, ``_`` and ``-``. What ``commit`` made visible survives a
    loss of power. ``delete`` may be repeated. No operation leaves anything half behind a name; what
    a killed writer leaves is under no name and is removed by ``sweep`` and ``sweep_abandoned``.
    """

    @property
    def location(self) -> str:
        """Return where this is, for people; without credentials."""

    def create(self, name: str) -> ObjectWriter:
        """Begin an object. Raises ConflictError at ``commit`` when the name is taken."""

    def open(self, name: str, start: int = 0) -> AbstractContextManager[ObjectReader]:
        """Open an object at byte ``start``. Raises ObjectNotFound."""

    def stat(self, name: str) -> ObjectInfo:
        """Return what is known of an object. Raises ObjectNotFound."""

    def delete(self, name: str) -> None:
        """Remove an object; when this returns it is gone, or was never there."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose names begin with ``prefix``, by name."""

    def newest(self, suffix: str, limit: int) -> Sequence[ObjectInfo]:
        """Return the objects made last of those whose names end with ``suffix``, the newest first.

        Of any number of objects ``limit`` are held; of others nothing but the name is looked at.
        """

    def sweep(self, name: str) -> None:
        """Remove what killed writers of ``name`` left behind."""

    def sweep_abandoned(self, before: float) -> None:
        """Remove what killed writers of any name left, untouched since ``before`` (Unix time)."""

    def free_bytes(self) -> int | None:
        """Return how much still fits, or None where that is not known."""


def check_name(name: str) -> str:
    """Return ``name``. Raises UsageError when it is not of the grammar."""
    if not is_name(name):
        raise UsageError(f"{name[:64]!r} cannot be the name of an object")
    return name


def is_name(name: str) -> bool:
    """Tell whether an object can have this name."""
    return _NAME.fullmatch(name) is not None
