"""How far running work is: in memory, for whoever watches."""

from __future__ import annotations

import threading
import time
from typing import Any


class ProgressBoard:
    """The progress of what this process runs, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, dict[str, Any]] = {}

    def begin(self, identity: str) -> None:
        """Start to show ``identity``."""
        with self._lock:
            self._entries[identity] = {
                "step": "starting",
                "progress": {},
                "began": time.monotonic(),
            }

    def step(self, identity: str, step: str, total_bytes: int | None = None) -> None:
        """Enter a step; ``total_bytes`` is an estimate of its work."""
        with self._lock:
            if identity in self._entries:
                self._entries[identity] |= {
                    "step": step,
                    "progress": {"done_bytes": 0, "total_bytes": total_bytes, "rows": 0},
                }

    def advance(self, identity: str, done_bytes: int, rows: int = 0) -> None:
        """Note how far the present step is."""
        with self._lock:
            if identity in self._entries:
                self._entries[identity]["progress"] |= {"done_bytes": done_bytes, "rows": rows}

    def end(self, identity: str) -> None:
        """Stop showing ``identity``."""
        with self._lock:
            self._entries.pop(identity, None)

    def of(self, identity: str) -> dict[str, Any]:
        """Return ``step``, ``progress`` and ``elapsed_s`` of what runs; nothing of what does not."""
        with self._lock:
            entry = self._entries.get(identity)
            if entry is None:
                return {}
            return {
                "step": entry["step"],
                "progress": dict(entry["progress"]),
                "elapsed_s": round(time.monotonic() - entry["began"], 2),
            }
