"""Whatever happens in the middle of a rehearsal: nothing of it is left, and nobody waited for it."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from restore_service.handlers import rehearse, request_rehearsal
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.run import STEP_POINTS, RehearsalStep
from restore_service.staging import rehearsal_name
from shared.crashpoints import ENV
from shared.errors import Cancelled, Interrupted, RehearsalInProgress, UnavailableError
from shared.messages.topics import RESTORE_EVENTS
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live, live_stack
from tests.rehearsing import ask, rehearsed, scratch, stopped_at, wait_reached

POINTS = [
    request_rehearsal.STORED.name,
    *(point.name for point in STEP_POINTS.values()),
    rehearse.LOADED.name,
]
KILLS_BEFORE_A_REST = 3


@dataclass
class Stopping:
    """A live stack whose processes stop at the points, and a backup to rehearse."""

    live: Live
    points: Path
    backup: Json
    key: str
    kills: int = 0

    def ask(self) -> Json:
        """Ask for a rehearsal that comes to every point."""
        return ask(self.live, self.backup, self.key, roll_forward="latest")

    def last(self) -> Json:
        found: Json = self.live.services.rehearsals.list()["rehearsals"][0]
        return found

    def kill(self, pid: int) -> None:
        """Kill a process for good, and return when all is well again."""
        if self.kills == KILLS_BEFORE_A_REST:
            # The supervisor gives a part up that ends too often.
            self.live.stack.down()
            self.live.stack.up()
            self.kills = 0
        else:
            os.kill(pid, signal.SIGKILL)
            self.kills += 1
        self.live.stack.wait_healthy()


@pytest.fixture(scope="module")
def stopping() -> Iterator[Stopping]:
    with (
        tempfile.TemporaryDirectory(prefix="secryn points ") as folder,
        live_stack(**{ENV: folder}) as live,
    ):
        live.stack.secryn("sample", "load")
        backup, key = live.backup()
        live.write(20)
        yield Stopping(live, Path(folder), backup, key)


@pytest.mark.parametrize("point", POINTS)
def test_killed_it_has_failed_and_nothing_is_left(stopping: Stopping, point: str) -> None:
    live = stopping.live
    before = live.state()
    with stopped_at(stopping.points, point):
        with suppress(UnavailableError):
            if point == request_rehearsal.STORED.name:
                # Whoever asked for this one gets no answer any more.
                live.services.rehearsals.connection._client.timeout = 2
            stopping.ask()
        stopping.kill(wait_reached(stopping.points, point))
    ended = eventually(lambda: _if_ended(stopping.last()), "recovery ends it", 30)
    assert (ended["state"], ended["error"]["code"]) == ("failed", Interrupted.code), ended
    eventually(lambda: not scratch(live), "nothing is left")
    assert live.state() == before
    (told,) = live.events_about(RESTORE_EVENTS, ev.FAILED, ended["rehearsal_id"])
    assert told["error"]["code"] == Interrupted.code


def _if_ended(rehearsal: Json) -> Json | None:
    return rehearsal if rehearsal["state"] in ev.ENDED else None


def test_after_all_that_one_goes_through(stopping: Stopping) -> None:
    ended = rehearsed(stopping.live, stopping.backup, stopping.key)
    assert ended["outcome"] == "restorable", ended


@pytest.mark.parametrize("step", [RehearsalStep.LOAD, RehearsalStep.COMPARE, RehearsalStep.FOLD])
def test_cancelled_it_ends_and_nothing_is_left(stopping: Stopping, step: RehearsalStep) -> None:
    live, point = stopping.live, STEP_POINTS[step].name
    before = live.state()
    with stopped_at(stopping.points, point):
        asked = stopping.ask()
        wait_reached(stopping.points, point)
        with pytest.raises(RehearsalInProgress):
            stopping.ask()
        live.services.rehearsals.cancel(asked["rehearsal_id"])
        # Where it looks again, long enough after it looked last.
        time.sleep(1)
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert (ended["state"], ended["error"]["code"]) == ("cancelled", Cancelled.code)
    assert not scratch(live)
    assert live.state() == before


@pytest.mark.parametrize("step", [RehearsalStep.INDEXES, RehearsalStep.COMPARE, RehearsalStep.FOLD])
def test_a_restore_that_comes_meanwhile_does_not_wait_for_it(
    stopping: Stopping, step: RehearsalStep
) -> None:
    live, point = stopping.live, STEP_POINTS[step].name
    with stopped_at(stopping.points, point):
        asked = stopping.ask()
        wait_reached(stopping.points, point)
        shown = live.services.rehearsals.get(asked["rehearsal_id"])
        assert shown["step"]
        assert scratch(live) <= {rehearsal_name(UUID(asked["rehearsal_id"]))}
        restored = live.restore(stopping.backup, stopping.key)
        assert restored["state"] == "restored", restored
        # It would have been waited for, and then ended, as an older transaction.
        assert (restored["sessions_ended"], restored["duration_s"] < 8) == (0, True)
        assert live.digest() == stopping.backup["digest"]
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert ended["outcome"] == "restorable", ended
    assert not scratch(live)
    assert live.digest() == stopping.backup["digest"]
