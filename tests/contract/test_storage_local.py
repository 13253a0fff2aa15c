"""What only the local folder promises: closed files, flushes in their order, told faults."""

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from shared.errors import NoSpace, SecrynError, UnavailableError, UnknownSetting
from shared.storage import LocalFolder
from tests.contract.test_storage import MIB, NAME, names, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def local(folder: Path) -> LocalFolder:
    return LocalFolder(folder)


def test_files_and_folder_are_closed_to_others(local: LocalFolder, folder: Path) -> None:
    before = os.umask(0)
    try:
        writer = local.create(NAME)
        partial = [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()]
        writer.commit()
    finally:
        os.umask(before)
    assert partial == [0o600]
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_newest_are_looked_for_again_once_the_folder_has_changed_and_not_before(
    local: LocalFolder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[object] = []
    real = os.scandir

    def counted(path: Path) -> object:
        scans.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", counted)
    put(local, "a.age")
    for _ in range(2):
        assert [info.name for info in local.newest(".age", 2)] == ["a.age"]
    assert len(scans) == 2, "a folder that has just changed may do so again unseen"
    os.utime(folder, (1, 1))
    for _ in range(3):
        assert [info.name for info in local.newest(".age", 2)] == ["a.age"]
    assert len(scans) == 3
    put(local, "b.age")
    assert len(local.newest(".age", 2)) == 2
    os.utime(folder, (2, 2))
    assert len(local.newest(".age", 2)) == 2
    (folder / "b.age").unlink()
    os.utime(folder, (2, 2))
    assert [info.name for info in local.newest(".age", 2)] == ["a.age"], "what is gone is not told"


def test_a_commit_flushes_the_whole_file_before_its_name_and_then_the_folder(
    local: LocalFolder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, int, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        state = os.fstat(handle)
        kind = "folder" if stat.S_ISDIR(state.st_mode) else "file"
        size = 0 if kind == "folder" else state.st_size
        flushed.append((kind, size, (folder / NAME).exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    put(local, content=bytes(3000))
    assert flushed == [("file", 3000, False), ("folder", 0, True)]
    flushed.clear()
    local.delete(NAME)
    assert flushed == [("folder", 0, False)]


def test_what_was_committed_is_read_back_from_the_disk_and_not_from_memory(
    local: LocalFolder, folder: Path
) -> None:
    untouched = folder.parent / "untouched"
    untouched.write_bytes(bytes(1 << 20))
    if not in_memory(untouched):
        pytest.skip("this file system does not tell what is in memory")
    os.sync()
    assert in_memory(untouched)
    writer = local.create("a.age")
    writer.write(bytes(1 << 20))
    writer.commit()
    assert not in_memory(folder / "a.age")


def in_memory(path: Path) -> bool:
    """Tell whether the beginning of a file is in the page cache; False where nobody knows."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(handle, [bytearray(4096)], 0, os.RWF_NOWAIT) > 0
    except OSError:
        return False
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EIO, UnavailableError)],
)
def test_a_write_that_fails_at_the_flush_leaves_nothing(
    local: LocalFolder,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    writer = local.create(NAME)
    writer.write(b"content")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(error, match=NAME):
            writer.commit()
    writer.abort()
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_told_as_no_space(local: LocalFolder, folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    writer = local.create(NAME)
    vars(writer)["_file"].close()
    vars(writer)["_file"] = io.BufferedWriter(io.FileIO("/dev/full", "wb"), MIB)
    with pytest.raises(NoSpace):
        writer.write(bytes(2 * MIB))
    writer.abort()
    assert list(folder.iterdir()) == []


def test_a_new_store_on_the_folder_sees_what_was_committed(
    local: LocalFolder, folder: Path
) -> None:
    put(local)
    local.create("killed").write(b"half")
    assert names(LocalFolder(folder)) == [NAME]


def test_what_is_no_object_is_not_listed(local: LocalFolder, folder: Path) -> None:
    put(local)
    (folder / "lost+found").mkdir()
    (folder / "subfolder").mkdir()
    (folder / "notes of mine").write_bytes(b"")
    assert names(local) == [NAME]


def test_a_folder_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnknownSetting, match="file"):
        LocalFolder(tmp_path / "file" / "objects")


def test_what_killed_writers_left_is_swept_when_it_is_old(local: LocalFolder, folder: Path) -> None:
    put(local)
    local.create("killed")
    old = set(folder.iterdir())
    for path in old:
        os.utime(path, (1000, 1000))
    being_written = local.create("another")
    local.sweep_abandoned(2000)
    assert names(local) == [NAME]
    being_written.commit()
    assert names(local) == sorted([NAME, "another"])
    assert len(list(folder.iterdir())) == 2


def test_a_folder_that_is_gone_is_a_told_fault(local: LocalFolder, folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(SecrynError):
        names(local)
