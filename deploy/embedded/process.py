"""Processes of the stack: started apart from the terminal, recognised for sure, stopped.

A pid alone does not name a process: it is used again after its end. A ``ProcessMark`` adds the
moment the process began (on Linux in clock ticks since this boot, with the boot's id), so that
a mark read from a file after a crash or a reboot never stands for a stranger.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.embedded.ports import free_port

POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True)
class ProcessMark:
    """One process for sure: its pid and the moment it began."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Return whether this very process runs (a zombie does not)."""
        return mark_of(self.pid) == self

    def send(self, number: int) -> None:
        """Send a signal, or nothing when the process is gone."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, timeout_s: float) -> bool:
        """Return whether the process ended within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def mark_of(pid: int) -> ProcessMark | None:
    """Return the mark of the process that has ``pid`` now, or None when there is none."""
    if _HAS_PROC:
        return _linux_mark(pid)
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessMark(pid, str(process.create_time()))
    except psutil.NoSuchProcess:
        return None


def _linux_mark(pid: int) -> ProcessMark | None:
    # psutil's create_time moves when the wall clock is set; the ticks of proc(5) do not.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    if state in ("Z", "X"):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ProcessMark(pid, f"{boot}:{start_ticks}")


@dataclass(frozen=True)
class Account:
    """Another user of the system that a process runs as."""

    name: str
    uid: int
    gid: int


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    log_file: Path,
    env: Mapping[str, str],
    account: Account | None = None,
    die_with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, its output appended to ``log_file`` (0600).

    ``die_with_parent`` (Linux only) kills it when the calling process ends, however that ends:
    for tests. Everywhere else the process outlives its parent until it is told to stop.
    """
    handle = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab") as log:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            # Only tests ask for it, and they have no other thread that forks.
            preexec_fn=_follow_parent if die_with_parent and _HAS_PROC else None,  # noqa: PLW1509
        )


def _follow_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def plain_environment() -> dict[str, str]:
    """Return what a server needs of the environment: no option of the caller reaches it."""
    return {name: os.environ[name] for name in ("PATH", "TZ") if name in os.environ} | {
        "LC_ALL": "C"
    }


def free_ports(count: int) -> list[int]:
    """Return ``count`` different loopback ports that nothing listens on at this moment."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
