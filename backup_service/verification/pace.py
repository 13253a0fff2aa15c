"""Read no faster than agreed: verification leaves the storage and the disk to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.errors import Interrupted

# Waits are taken in pieces, so that a stop ends them.
_LONGEST_WAIT_S: Final = 1.0


class Pace:
    """At most ``bytes_per_s`` on average since it was made; ``stop`` ends every wait."""

    def __init__(
        self,
        bytes_per_s: int,
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._stop = stop
        self._monotonic = monotonic
        self._began = monotonic()
        self._done = 0

    def read(self, count: int) -> None:
        """Note ``count`` bytes read and wait until they are due. Raises Interrupted at a stop."""
        self._done += count
        due = self._began + self._done / self._bytes_per_s
        while (left := due - self._monotonic()) > 0 or self._stop.is_set():
            if self._stop.wait(min(left, _LONGEST_WAIT_S)):
                raise Interrupted("the service stopped during a verification; it begins anew")
