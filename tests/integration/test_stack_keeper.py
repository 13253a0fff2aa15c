"""A part that dies is started again, with a growing pause, and is given up loudly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy.embedded import keeper
from deploy.embedded.keeper import Keeper, Part, PartReport
from deploy.embedded.parts import stop_service
from deploy.embedded.process import spawn


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "BACKOFF_FIRST_S", 0.01)


def part(folder: Path, script: str, needs: tuple[str, ...] = ()) -> Part:
    """A part whose process runs ``script`` and is healthy once it has made the file ``up``."""

    def start() -> subprocess.Popen[bytes]:
        (folder / "up").unlink(missing_ok=True)
        argv = [sys.executable, "-c", script]
        return spawn(argv, cwd=folder, log_file=folder / "log", env=dict(os.environ))

    def fault() -> str | None:
        return None if (folder / "up").exists() else "not up yet"

    return Part("thing", folder / "log", start, fault, stop_service, needs)


class Kept:
    """A keeper and all that it reported."""

    def __init__(self, part: Part, needs: tuple[Keeper, ...] = ()) -> None:
        self.reports: list[PartReport] = []
        self.stopping = threading.Event()
        self.keeper = Keeper(part, self.stopping, needs, self.reports.append)

    def __enter__(self) -> Kept:
        self.keeper.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.keeper.join()
        self.keeper.end_process(5.0)

    def wait(self, state: str) -> PartReport:
        deadline = time.monotonic() + 30
        while self.keeper.report.state != state:
            assert time.monotonic() < deadline, self.reports
            time.sleep(0.01)
        return self.keeper.report


SERVE = "import time; open('up', 'w'); time.sleep(100)"


def test_a_part_that_dies_is_started_again(tmp_path: Path) -> None:
    with Kept(part(tmp_path, SERVE)) as kept:
        first = kept.wait("healthy").mark
        assert first is not None
        first.send(9)
        kept.wait("restarting")
        again = kept.wait("healthy")
        assert again.mark not in (None, first)
        assert again.restarts == 1


def test_a_part_that_never_lives_is_given_up_with_its_reason(tmp_path: Path) -> None:
    with Kept(part(tmp_path, "raise SystemExit(3)")) as kept:
        report = kept.wait("failed")
    assert report.code == "stack.process_failed"
    assert "status 3" in (report.reason or "")
    assert str(tmp_path / "log") in (report.reason or "")
    assert len({entry.mark for entry in kept.reports if entry.mark is not None}) == 5


def test_a_part_whose_need_is_down_waits_for_it_and_is_not_given_up(tmp_path: Path) -> None:
    (tmp_path / "need").mkdir()
    (tmp_path / "user").mkdir()
    with Kept(part(tmp_path / "need", SERVE)) as need:
        need.wait("healthy")
        with Kept(part(tmp_path / "user", SERVE), (need.keeper,)) as user:
            user.wait("healthy")
            need.keeper.healthy.clear()
            mark = user.keeper.report.mark
            assert mark is not None
            mark.send(9)
            user.wait("restarting")
            time.sleep(0.5)
            assert user.keeper.report.state == "restarting"
            need.keeper.healthy.set()
            user.wait("healthy")


def test_the_process_is_gone_when_the_keeper_has_ended_it(tmp_path: Path) -> None:
    with Kept(part(tmp_path, SERVE)) as kept:
        mark = kept.wait("healthy").mark
    assert mark is not None
    assert not mark.is_alive()
    assert kept.keeper.report.state == "stopped"
