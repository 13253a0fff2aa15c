"""Processes that begin within a moment: each is a copy of a server that has everything imported.

forked.preload(__name__)                      # beside the functions that processes are to run
process = forked.start(work, *arguments)      # as picklable as for any process
forked.kill(process)                          # SIGKILL, and wait
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from typing import Final

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_imported: list[str] = []


def preload(module: str) -> None:
    """Have the server import ``module`` when it starts; it does so with the first process."""
    _imported.append(module)
    _CONTEXT.set_forkserver_preload(_imported)


def start(work: Callable[..., None], *arguments: object) -> ForkServerProcess:
    """Start a process that does ``work``; it ends with this one at the latest."""
    process = _CONTEXT.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def kill(process: ForkServerProcess) -> None:
    """Send SIGKILL, and wait until it is gone."""
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    assert not process.is_alive()
