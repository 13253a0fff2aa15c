"""How far running work is: in memory, for whoever watches."""

from __future__ import annotations

import threading
import time
from typing import Any

LEAST_PASSED_S = 1.0


class ProgressBoard:
    """The progress of what this process runs, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, Any]] = {}
        self._ticks: dict[str, int] = {}

    def begin(self, identity: str) -> None:
        """Start to show ``identity``."""
        with self._lock:
            self._entries[identity] = {
                "step": "starting",
                "progress": {},
                "began": time.monotonic(),
                "step_began": time.monotonic(),
            }
            self._ticks[identity] = 1

    def step(self, identity: str, step: str, total_bytes: int | None = None) -> None:
        """Enter a step; ``total_bytes`` is an estimate of its work."""
        with self._lock:
            if identity in self._entries:
                self._entries[identity] |= {
                    "step": step,
                    "progress": {"done_bytes": 0, "total_bytes": total_bytes, "rows": 0},
                    "step_began": time.monotonic(),
                }
                self._ticks[identity] += 1

    def advance(self, identity: str, done_bytes: int, rows: int = 0) -> None:
        """Note how far the present step is."""
        with self._lock:
            if identity in self._entries:
                self._entries[identity]["progress"] |= {"done_bytes": done_bytes, "rows": rows}
                self._ticks[identity] += 1

    def end(self, identity: str) -> None:
        """Stop showing ``identity``."""
        with self._lock:
            self._entries.pop(identity, None)
            self._ticks.pop(identity, None)

    def tick(self, identity: str) -> int:
        """Return a number that grows with every change of ``identity``; 0 for what does not run."""
        with self._lock:
            return self._ticks.get(identity, 0)

    def of(self, identity: str) -> dict[str, Any]:
        """Return ``step``, ``progress`` and ``elapsed_s`` of what runs; nothing of what does not.

        ``progress["left_s"]`` is how long the step may still take; None where nobody can say.
        """
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None:
                return {}
            return {
                "step": entry["step"],
                "progress": entry["progress"] | {"left_s": _left_s(entry)},
                "elapsed_s": round(time.monotonic() - entry["began"], 2),
            }


def _left_s(entry: dict[str, Any]) -> float | None:
    progress = entry["progress"]
    done: int | None = progress.get("done_bytes")
    total: int | None = progress.get("total_bytes")
    passed_s: float = time.monotonic() - entry["step_began"]
    # The first moments of a step say nothing about the rest of it.
    if not done or not total or passed_s < LEAST_PASSED_S:
        return None
    return round(max(0.0, passed_s * (total - done) / done), 1)
