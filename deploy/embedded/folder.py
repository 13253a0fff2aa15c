"""The state folder: its layout, who may enter it, and the lock of the one supervisor."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.process import Account
from shared.errors import (
    NoSpace,
    StackAlreadyRunning,
    StackError,
    StackNotRunning,
    StackStateInvalid,
    StackStateOpen,
)

FOLDERS = (
    "backups", "config", "credentials", "keks", "keys", "log", "recipients", "run", "uploads",
)  # fmt: skip
LEAST_FREE_BYTES = 256 * 1024 * 1024
LOG_LIMIT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class StateFolder:
    """Names of everything in one state folder; ``root`` is absolute."""

    root: Path

    @property
    def place(self) -> Path:
        return self.root / "place.toml"

    @property
    def token(self) -> Path:
        return self.root / "token"

    @property
    def bootstrap(self) -> Path:
        return self.root / "bootstrap"

    @property
    def supervisor(self) -> Path:
        return self.root / "run" / "supervisor.json"

    def key(self, name: str) -> Path:
        return self.root / "keys" / name

    def config(self, process: str) -> Path:
        return self.root / "config" / f"{process}.toml"

    def log(self, process: str) -> Path:
        return self.root / "log" / f"{process}.log"

    def passfile(self, role: str) -> Path:
        return self.root / "credentials" / f"postgres-{role}.pass"

    def kafka_password(self, user: str) -> Path:
        return self.root / "credentials" / f"kafka-{user}.password"

    def folder(self, name: str) -> Path:
        return self.root / name


def open_state(path: Path) -> StateFolder:
    """Return the state folder at ``path`` that `secryn up` made.

    Raises StackNotRunning when there is none, StackStateOpen when it is not the caller's own.
    """
    root = path.expanduser().absolute()
    if not (root / "place.toml").is_file():
        raise StackNotRunning(f"there is no stack in {root}")
    _check_owner(root)
    return StateFolder(root)


def create_state(path: Path, account: Account | None) -> StateFolder:
    """Make the state folder, or open it; it is closed to everybody else afterwards.

    The mode is 0700. Only where PostgreSQL runs as another user (``account``) is it 0710 with
    that user's group: it may walk through, to its own folder, and see nothing else.

    Raises StackStateInvalid for a folder of something else, StackStateOpen, NoSpace.
    """
    # Links are resolved here, once: PostgreSQL's user must be let through the real folders.
    root = path.expanduser().resolve()
    try:
        # In this order: another start may be making the place at this very moment.
        if root.exists() and _is_foreign(root) and not (root / "place.toml").exists():
            raise StackStateInvalid(f"{root} exists and is not a state folder")
        root.mkdir(parents=True, mode=0o700, exist_ok=True)
        _check_owner(root)
        if account is None:
            root.chmod(0o700)
        else:
            os.chown(root, -1, account.gid)
            root.chmod(0o710)
        for name in FOLDERS:
            (root / name).mkdir(mode=0o700, exist_ok=True)
            (root / name).chmod(0o700)
        _check_space(root)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"no space left for the state in {root}") from error
        raise StackError(f"the state folder {root} cannot be made: {error}") from error
    return StateFolder(root)


def _is_foreign(root: Path) -> bool:
    # A start that was killed before place.toml was there has left our folders, what it wrote of
    # that file under another name, and nothing else.
    return not root.is_dir() or any(
        entry.name not in FOLDERS and not entry.name.startswith(".place.toml.")
        for entry in root.iterdir()
    )


def _check_owner(root: Path) -> None:
    facts = root.stat()
    if facts.st_uid != os.geteuid():
        raise StackStateOpen(f"{root} belongs to another user")
    if (
        facts.st_mode & (stat.S_IRWXO | stat.S_IRGRP | stat.S_IWGRP)
        and (root / "place.toml").exists()
    ):
        raise StackStateOpen(f"{root} is open to other users (mode {facts.st_mode & 0o777:04o})")


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < LEAST_FREE_BYTES:
        raise NoSpace(
            f"{root} has {free // 2**20} MiB free; a stack needs {LEAST_FREE_BYTES // 2**20} MiB"
        )


@contextmanager
def supervisor_lock(state: StateFolder) -> Iterator[None]:
    """Hold the state for one supervisor; the system gives it back however that one ends.

    Raises StackAlreadyRunning when another holds it.
    """
    with (state.root / "run" / "supervisor.flock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackAlreadyRunning(f"the stack in {state.root} is running already") from None
        yield


def rotate_log(path: Path) -> None:
    """Set a long log aside as ``.1``, of which there is one, before its process starts."""
    try:
        if path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    except FileNotFoundError:
        return
