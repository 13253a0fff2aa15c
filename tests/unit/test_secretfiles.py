"""Files that hold secrets: closed, whole, durable, and refused when others can read them."""

import os
import stat
from pathlib import Path

import pytest

from shared.errors import UnknownSetting
from shared.secretfiles import read_secret_file, write_secret_file

SECRET = b"hunter2-hunter2\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_secret_file_is_never_open_to_others(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_secret_file(path, SECRET)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == SECRET


def test_not_even_while_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    before = os.umask(0)
    try:
        write_secret_file(path, SECRET)
    finally:
        os.umask(before)
    assert modes[0] == 0o600


def test_it_is_flushed_before_it_has_its_name_and_then_its_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_secret_file(path, SECRET)
    assert flushed == [(False, False), (True, True)]


def test_a_file_that_is_there_is_not_replaced(path: Path) -> None:
    write_secret_file(path, b"first")
    with pytest.raises(FileExistsError):
        write_secret_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert listing(path.parent) == ["secret"]


def test_a_link_to_nowhere_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_secret_file(path, SECRET)
    assert listing(tmp_path) == ["secret"]


def test_it_is_replaced_when_asked_and_stays_closed(path: Path) -> None:
    path.write_bytes(b"first")
    path.chmod(0o644)
    write_secret_file(path, b"second", exist_ok=True)
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert listing(path.parent) == ["secret"]


def test_a_link_is_replaced_and_what_it_points_to_left_alone(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    path.symlink_to(other)
    write_secret_file(path, SECRET, exist_ok=True)
    assert not path.is_symlink()
    assert other.read_bytes() == b"other"


@pytest.mark.parametrize("exist_ok", [False, True])
def test_a_write_that_fails_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, exist_ok: bool
) -> None:
    if exist_ok:
        write_secret_file(path, b"first")

    def fsync(handle: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="Input/output"):
            write_secret_file(path, b"second", exist_ok=exist_ok)
    assert listing(path.parent) == (["secret"] if exist_ok else [])
    assert not exist_ok or path.read_bytes() == b"first"


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b" \n\n"])
def test_white_space_at_the_end_does_not_belong_to_a_secret(path: Path, ending: bytes) -> None:
    write_secret_file(path, b" secret" + ending)
    assert read_secret_file(path) == b" secret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777, 0o610, 0o601, 0o620])
def test_a_file_that_is_open_to_others_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    write_secret_file(path, SECRET)
    path.chmod(mode)
    with pytest.raises(UnknownSetting, match=path.name) as refused:
        read_secret_file(path)
    assert refused.value.advice == f"Run: chmod 600 {path}"
    assert "hunter2" not in str(refused.value.as_problem())


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_is_closed_to_others_is_read(path: Path, mode: int) -> None:
    write_secret_file(path, SECRET)
    path.chmod(mode)
    assert read_secret_file(path) == SECRET.rstrip()


def test_a_missing_file_and_a_folder_are_named(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(UnknownSetting, match=path.name):
            read_secret_file(path)
        path.mkdir(mode=0o700, exist_ok=True)
