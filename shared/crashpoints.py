"""Places between two steps at which a test stops a process, or kills it.

    CUT_OVER = CrashPoint("restore.cut_over")       # declared beside the step
    CUT_OVER.reach()                                 # does nothing, but for a test

A test starts the process with ``SECRYN_CRASH_POINTS`` naming a folder, and asks for a stop by
making a file of the point's name there. The process then makes NAME.reached and stays until the
first file is gone: meanwhile anything may be killed, this process among it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar, Final

ENV: Final = "SECRYN_CRASH_POINTS"
_POLL_S: Final = 0.01


class CrashPoint:
    """A named place; every name is declared once."""

    declared: ClassVar[dict[str, CrashPoint]] = {}

    def __init__(self, name: str) -> None:
        if name in self.declared:
            raise ValueError(f"the crash point {name} is declared twice")
        self.name = name
        self.declared[name] = self

    def reach(self) -> None:
        """Stay here for as long as a test wants it."""
        folder = os.environ.get(ENV)
        if folder is None:
            return
        wanted = Path(folder, self.name)
        if not wanted.exists():
            return
        # Whoever sees the file reads all of it.
        written = wanted.with_name(f"{self.name}.{os.getpid()}.reached")
        written.write_text(str(os.getpid()))
        written.replace(wanted.with_name(f"{self.name}.reached"))
        while wanted.exists():
            time.sleep(_POLL_S)
