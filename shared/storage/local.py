"""Objects as files in one folder of this machine."""

from __future__ import annotations

import errno
import heapq
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import Buffer

from shared.errors import ConflictError, NoSpace, ObjectNotFound, UnavailableError
from shared.folders import prepare_folder
from shared.secretfiles import fsync_folder
from shared.storage.port import ObjectInfo, ObjectReader, ObjectWriter, check_name, is_name

_SCRATCH = ".partial-"
_SCRATCH_BYTES = 8
_SETTLED_NS = 2_000_000_000


class _FileWriter:
    def __init__(self, folder: Path, name: str) -> None:
        self._final = folder / name
        self._scratch = folder / f"{_SCRATCH}{name}-{secrets.token_hex(_SCRATCH_BYTES)}"
        with _faults(f"writing {name}"):
            handle = os.open(self._scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb", buffering=1 << 20)

    def write(self, data: Buffer, /) -> int:
        with _faults(f"writing {self._final.name}"):
            return self._file.write(data)

    def commit(self) -> None:
        with _faults(f"writing {self._final.name}"):
            self._file.flush()
            os.fsync(self._file.fileno())
            # Whoever reads it back reads the disk, and it pushes nothing of others' out of memory.
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._file.close()
            try:
                # A link never replaces: the name is taken, or it is ours, whole.
                os.link(self._scratch, self._final)
            except FileExistsError:
                raise ConflictError(f"the object {self._final.name} exists") from None
            self._scratch.unlink()
            fsync_folder(self._final.parent)

    def abort(self) -> None:
        # What cannot be flushed any more is removed all the same.
        with suppress(OSError):
            self._file.close()
        self._scratch.unlink(missing_ok=True)


class LocalFolder:
    """An object store in ``folder`` (0700), each object a file (0600).

    Where it is not ``writable``, only reading it is asked for and works.
    """

    def __init__(self, folder: Path, *, writable: bool = True) -> None:
        self._folder = prepare_folder(folder, writable=writable)
        # The newest names of a suffix, and the folder's time that they are as of.
        self._newest: dict[tuple[str, int], tuple[tuple[str, ...], int]] = {}

    @property
    def location(self) -> str:
        return f"file:{self._folder}"

    def create(self, name: str) -> ObjectWriter:
        return _FileWriter(self._folder, check_name(name))

    @contextmanager
    def open(self, name: str, start: int = 0) -> Iterator[ObjectReader]:
        with _faults(f"reading {name}"):
            file = (self._folder / check_name(name)).open("rb", buffering=1 << 20)
        with file:
            file.seek(start)
            yield file

    def stat(self, name: str) -> ObjectInfo:
        with _faults(f"looking at {name}"):
            found = (self._folder / check_name(name)).stat()
            return ObjectInfo(name, found.st_size, found.st_mtime)

    def delete(self, name: str) -> None:
        with _faults(f"deleting {name}"):
            (self._folder / check_name(name)).unlink(missing_ok=True)
            fsync_folder(self._folder)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with _faults("listing objects"), os.scandir(self._folder) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.startswith(prefix) and is_name(entry.name) and entry.is_file()
            )
        for name in names:
            # An object that was deleted since is no longer one of them.
            with suppress(ObjectNotFound):
                yield self.stat(name)

    def newest(self, suffix: str, limit: int) -> Sequence[ObjectInfo]:
        with _faults("listing objects"):
            changed_at_ns = self._folder.stat().st_mtime_ns
            names, as_of_ns = self._newest.get((suffix, limit), ((), 0))
            if as_of_ns != changed_at_ns:
                settled = time.time_ns() - changed_at_ns > _SETTLED_NS
                names = self._names_of_newest(suffix, limit)
                # A change in the same tick of the clock would not show in the folder's time.
                self._newest[suffix, limit] = (names, changed_at_ns if settled else 0)
        return [info for name in names if (info := self._known(name)) is not None]

    def _names_of_newest(self, suffix: str, limit: int) -> tuple[str, ...]:
        with os.scandir(self._folder) as entries:
            found = (
                (modified_at, entry.name)
                for entry in entries
                if entry.name.endswith(suffix)
                and is_name(entry.name)
                and (modified_at := _modified_at(entry)) is not None
            )
            return tuple(name for _, name in heapq.nlargest(limit, found))

    def _known(self, name: str) -> ObjectInfo | None:
        """Return what is known of an object, or None for one that was deleted since."""
        with suppress(ObjectNotFound):
            return self.stat(name)
        return None

    def sweep(self, name: str) -> None:
        # The ending has one length: `name-2` is written beside `name` and is not its remains.
        ending = "[0-9a-f]" * (2 * _SCRATCH_BYTES)
        for left in self._folder.glob(f"{_SCRATCH}{check_name(name)}-{ending}"):
            left.unlink(missing_ok=True)

    def sweep_abandoned(self, before: float) -> None:
        for left in self._folder.glob(f"{_SCRATCH}*"):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < before:
                    left.unlink()

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self._folder).free


def _modified_at(entry: os.DirEntry[str]) -> float | None:
    """Return when an object was made; None for what is none, or was deleted since."""
    try:
        return entry.stat().st_mtime if entry.is_file() else None
    except FileNotFoundError:
        return None


@contextmanager
def _faults(doing: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFound(f"{doing} failed: it is not there") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace(f"{doing} failed: no space is left") from error
        raise UnavailableError(f"{doing} failed: {error.strerror}") from error
