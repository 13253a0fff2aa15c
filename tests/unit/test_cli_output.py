"""What leaves a command as an error: one message, one exit code, never a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.approval import tell_waiting
from cli.output import command
from shared.errors import KeyAlreadyViewed, UsageError


@command
def raising(error: BaseException, *, as_json: bool = False) -> None:
    raise error


@command
def reading(path: Path, *, as_json: bool = False) -> None:
    path.read_bytes()


def test_an_error_of_ours_is_a_message_a_hint_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        raising(KeyAlreadyViewed("by anna"))
    assert left.value.code == KeyAlreadyViewed.exit_code
    said = capsys.readouterr()
    assert "by anna [key.already_viewed]" in said.err
    assert KeyAlreadyViewed.hint in said.err
    assert said.out == ""


def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        reading(tmp_path / "missing.age", as_json=True)
    assert left.value.code == UsageError.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert "missing.age" in error["message"]
    assert error["hint"]


def test_a_fault_without_a_file_is_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        raising(OSError("the disk"))
    assert "OSError" in capsys.readouterr().err


def test_a_reader_that_left_is_no_fault() -> None:
    with pytest.raises(BrokenPipeError):
        raising(BrokenPipeError(32, "Broken pipe"))


def test_an_interruption_has_its_own_exit_code() -> None:
    with pytest.raises(SystemExit) as left:
        raising(KeyboardInterrupt())
    assert left.value.code == 130


def test_who_asked_for_a_restore_learns_for_whom_it_waits_and_what_to_type_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    until = "2030-01-01T00:00:00+00:00"
    restore = {"restore_id": "R", "expires_at": until, "approvers": ["operator", "alice"]}
    tell_waiting(restore)
    said = capsys.readouterr().out
    for part in (until, "operator or alice", "secryn restore approve R", "secryn restore start R"):
        assert part in said
