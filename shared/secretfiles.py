"""Read and write files that hold secrets: always 0600, always whole."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from shared.errors import UnknownSetting


def write_secret_file(path: Path, content: bytes, *, exist_ok: bool = False) -> None:
    """Write ``content`` to ``path`` with mode 0600, atomically and durably.

    The file appears whole or not at all: it is written under another name, flushed to the disk,
    and then linked into place; the folder is flushed last.

    Raises FileExistsError when the file is there and ``exist_ok`` is false.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if exist_ok:
            scratch.replace(path)
        else:
            os.link(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    fsync_folder(path.parent)


def read_secret_file(path: Path) -> bytes:
    """Return the content of ``path``, stripped of white space at its end.

    Raises UnknownSetting when it is missing or can be read by others.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise UnknownSetting(f"the secret file {path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise UnknownSetting(
            f"the secret file {path} can be read by others", hint=f"Run: chmod 600 {path}"
        )
    return content.rstrip()


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
