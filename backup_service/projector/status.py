"""What the projector is doing: written by its loop, read by its HTTP interface."""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Longer without a sign of life from the loop, and it hangs.
SILENCE_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Stopped:
    """Why the projector applies nothing: a stable code, where, and what happened."""

    code: str
    offset: int | None
    reason: str
    backup_id: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found: dict[str, object] = {
            "code": self.code,
            "offset": self.offset,
            "reason": self.reason,
        }
        if self.backup_id is not None:
            found["backup_id"] = self.backup_id
        return found


@dataclass
class _State:
    state: str = "starting"
    cluster_id: str | None = None
    topic_id: str | None = None
    position: int | None = None
    high_watermark: int | None = None
    epoch: int | None = None
    fence: dict[str, object] | None = None
    stopped: Stopped | None = None
    unavailable: str | None = None
    applied: int = 0
    batches: int = 0
    rejected: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


class ProjectorStatus:
    """A thread-safe picture of the projector; every write replaces what it names."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = _State()
        self._seen = time.monotonic()
        self._ignored: Tally[str] = Tally()

    def update(self, **changes: Any) -> None:
        """Set the named fields and note that the loop lives."""
        with self._lock:
            for name, value in changes.items():
                if not hasattr(self._now, name):
                    raise AttributeError(name)
                setattr(self._now, name, value)
            self._seen = time.monotonic()

    def add(self, *, applied: int = 0, rejected: int = 0) -> None:
        """Count one committed batch."""
        with self._lock:
            self._now.applied += applied
            self._now.rejected += rejected
            self._now.batches += 1

    def count_ignored(self, reason: str) -> None:
        """Count a restore event that changed nothing, by the reason."""
        with self._lock:
            self._ignored[reason] += 1

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form that /status answers."""
        with self._lock:
            now = self._now
            lag = None
            if now.position is not None and now.high_watermark is not None:
                lag = max(0, now.high_watermark - now.position)
            return {
                "state": now.state,
                "log": {"cluster_id": now.cluster_id, "topic_id": now.topic_id},
                "position": now.position,
                "high_watermark": now.high_watermark,
                "lag": lag,
                "epoch": now.epoch,
                "fence": now.fence,
                "stopped": now.stopped.as_dict() if now.stopped else None,
                "unavailable": now.unavailable,
                "counts": {
                    "applied": now.applied,
                    "batches": now.batches,
                    "rejected": now.rejected,
                    "skipped": dict(now.skipped),
                    "ignored_restore_events": dict(self._ignored),
                },
            }

    def fault(self) -> str | None:
        """Return what keeps the projector from being ready, or None."""
        with self._lock:
            now = self._now
            if now.stopped is not None:
                where = "" if now.stopped.offset is None else f" at offset {now.stopped.offset}"
                return f"{now.stopped.code}{where}: {now.stopped.reason}"
            if now.unavailable is not None:
                return now.unavailable
            if now.state == "starting":
                return "the projector has not reached the log yet"
            silent_s = time.monotonic() - self._seen
            if silent_s > SILENCE_LIMIT_S:
                return f"the projector's loop has been silent for {silent_s:.0f} s"
            return None
