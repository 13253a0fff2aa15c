"""What the projector is doing: written by its loop, read by its HTTP interface."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Final

from shared.health import LastingFault
from shared.instance.position import LogPosition

# Longer without a sign of life from the loop, and it hangs.
SILENCE_LIMIT_S: Final = 60.0


@dataclass(frozen=True)
class Stopped:
    """Why the projector applies nothing: a stable code, where, and what happened."""

    code: str
    offset: int | None
    reason: str
    hint: str
    backup_id: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found: dict[str, object] = {
            "code": self.code,
            "offset": self.offset,
            "reason": self.reason,
            "hint": self.hint,
        }
        if self.backup_id is not None:
            found["needs_archive"] = self.backup_id
        return found


@dataclass(frozen=True)
class Snapshot:
    """A consistent picture; ``lag`` is in offsets, markers counted."""

    state: str
    position: LogPosition | None
    high_watermark: int | None
    stopped: Stopped | None
    unavailable: str | None
    applied: int
    batches: int
    rejected: int

    @property
    def lag(self) -> int | None:
        """Return how far the store is behind the log, or None before both are known."""
        if self.position is None or self.high_watermark is None:
            return None
        return max(0, self.high_watermark - self.position.position)

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form that /status answers."""
        row = self.position
        return {
            "state": self.state,
            "log": {
                "cluster_id": row.cluster_id if row else None,
                "topic_id": row.topic_id if row else None,
            },
            "position": row.position if row else None,
            "high_watermark": self.high_watermark,
            "lag": self.lag,
            "epoch": row.epoch if row else None,
            "fence": _fence(row),
            "stopped": self.stopped.as_dict() if self.stopped else None,
            "unavailable": self.unavailable,
            "counts": {
                "applied": self.applied,
                "batches": self.batches,
                "rejected": self.rejected,
                "skipped": dict(row.skipped) if row else {},
            },
        }


def _fence(row: LogPosition | None) -> dict[str, object] | None:
    if row is None or not row.fenced:
        return None
    return {
        "fence_no": row.fence_no,
        "restore_id": str(row.fence_restore_id),
        "fence_offset": row.fence_offset,
    }


class ProjectorStatus:
    """The present picture, safe to read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Snapshot("starting", None, None, None, None, 0, 0, 0)
        self._seen = time.monotonic()

    def _set(
        self,
        state: str,
        *,
        position: LogPosition | None = None,
        high_watermark: int | None = None,
        stopped: Stopped | None = None,
        unavailable: str | None = None,
        applied: int = 0,
        batches: int = 0,
        rejected: int = 0,
    ) -> None:
        with self._lock:
            now = self._now
            self._now = Snapshot(
                state,
                position if position is not None else now.position,
                high_watermark if high_watermark is not None else now.high_watermark,
                stopped,
                unavailable,
                now.applied + applied,
                now.batches + batches,
                now.rejected + rejected,
            )
            self._seen = time.monotonic()

    def follow(self, state: str, position: LogPosition, high_watermark: int | None = None) -> None:
        """Say where a running session is; the end of the log was at least there."""
        known = high_watermark if high_watermark is not None else self._now.high_watermark or 0
        self._set(state, position=position, high_watermark=max(known, position.position))

    def count(self, *, applied: int, rejected: int) -> None:
        """Count one committed batch."""
        self._set(self._now.state, applied=applied, rejected=rejected, batches=1)

    def halt(self, stopped: Stopped, position: LogPosition | None) -> None:
        """Say that nothing is applied any more, and why."""
        self._set("stopped", position=position, stopped=stopped)

    def lose(self, what: str) -> None:
        """Say which part does not answer; it is tried again."""
        self._set("reconnecting", unavailable=what)

    def live(self) -> None:
        """Say that the loop lives although nothing changes."""
        with self._lock:
            self._seen = time.monotonic()

    def snapshot(self) -> Snapshot:
        """Return the picture as it is now."""
        with self._lock:
            return self._now

    def fault(self) -> str | None:
        """Return what keeps the projector from being ready, or None."""
        now = self.snapshot()
        if now.stopped is not None:
            where = "" if now.stopped.offset is None else f" at offset {now.stopped.offset}"
            return LastingFault(
                f"{now.stopped.code}{where}: {now.stopped.reason}. {now.stopped.hint}"
            )
        if now.unavailable is not None:
            return now.unavailable
        if now.position is None:
            return "the projector has not reached the log yet"
        silent_s = time.monotonic() - self._seen
        if silent_s > SILENCE_LIMIT_S:
            return f"the projector's loop has been silent for {silent_s:.0f} s"
        return None
