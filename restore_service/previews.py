"""Previews: they wait in memory, run one after another beside any restore, and are kept a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

from restore_service.commands import PreviewRestore
from serving.requester import Requester
from shared.archive.keyfile import KeyFile
from shared.errors import PreviewNotFound, PreviewsBusy

KEPT: Final = 20
KEPT_S: Final = 3600.0
MOST_WAITING: Final = 8

REQUESTED, RUNNING, PREVIEWED, FAILED = "requested", "running", "previewed", "failed"


@dataclass(frozen=True)
class AcceptedPreview:
    """A preview that this process is to run, with the key that is nowhere else."""

    command: PreviewRestore
    key: KeyFile
    requester: Requester

    @property
    def id(self) -> str:
        """Return the preview's id."""
        return str(self.command.preview_id)


@dataclass
class _Entry:
    document: dict[str, Any]
    ended_at: float | None = None
    # Asked for; then run; then ended.
    changes: int = 1


@dataclass
class PreviewBoard:
    """Every preview of this process: those that wait with their keys, and the newest results."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _waiting: OrderedDict[str, AcceptedPreview] = field(default_factory=OrderedDict, repr=False)

    def add(self, accepted: AcceptedPreview, document: dict[str, Any]) -> None:
        """Let a preview wait for its turn; one that is known is left as it is.

        Raises PreviewsBusy when too many wait.
        """
        with self._lock:
            if accepted.id in self._entries:
                return
            if len(self._waiting) >= MOST_WAITING:
                raise PreviewsBusy(f"{len(self._waiting)} previews wait for their turn")
            self._entries[accepted.id] = _Entry(document)
            self._waiting[accepted.id] = accepted

    def find(self, preview_id: str) -> dict[str, Any] | None:
        """Return a preview as it stands, or None."""
        with self._lock:
            self._forget_old()
            entry = self._entries.get(preview_id)
            return None if entry is None else entry.document

    def get(self, preview_id: str) -> dict[str, Any]:
        """Return a preview as it stands. Raises PreviewNotFound."""
        found = self.find(preview_id)
        if found is None:
            raise PreviewNotFound(f"there is no preview {preview_id}, or it is too old")
        return found

    def changes(self, preview_id: str) -> int:
        """Return how often a preview has changed by now; 0 for one that is not there."""
        with self._lock:
            entry = self._entries.get(preview_id)
            return 0 if entry is None else entry.changes

    def take(self) -> AcceptedPreview | None:
        """Return the next one to be run, and its key: it is nowhere any more."""
        with self._lock:
            if not self._waiting:
                return None
            preview_id, accepted = self._waiting.popitem(last=False)
            entry = self._entries[preview_id]
            entry.document = entry.document | {"state": RUNNING}
            entry.changes += 1
            return accepted

    def end(self, preview_id: str, result: dict[str, Any]) -> None:
        """Note how a preview ended."""
        with self._lock:
            entry = self._entries[preview_id]
            entry.document, entry.ended_at = entry.document | result, time.monotonic()
            entry.changes += 1
            self._entries.move_to_end(preview_id)
            self._forget_old()

    def _forget_old(self) -> None:
        ended = [name for name, entry in self._entries.items() if entry.ended_at is not None]
        limit = time.monotonic() - KEPT_S
        for place, name in enumerate(reversed(ended)):
            ended_at = self._entries[name].ended_at
            if place >= KEPT or (ended_at is not None and ended_at < limit):
                del self._entries[name]
