"""Whatever happens in the middle of a rehearsal: nothing of it is left, and nobody waited for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import pytest

from restore_service.handlers import rehearse, request_rehearsal
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.run import STEP_POINTS, RehearsalStep
from restore_service.staging import rehearsal_name
from shared.errors import Cancelled, Interrupted, RehearsalInProgress, UnavailableError
from shared.messages.topics import RESTORE_EVENTS
from tests.documents import plain
from tests.plugins.faults import Crashing, Points, some_or_every
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live
from tests.rehearsing import ask, rehearsed, scratch

POINTS = [
    request_rehearsal.STORED.name,
    *(point.name for point in STEP_POINTS.values()),
    rehearse.LOADED.name,
]


@dataclass
class Stopping:
    """A live stack whose processes stop at the points, and a backup to rehearse."""

    crashing: Crashing
    backup: Json
    key: str

    @property
    def live(self) -> Live:
        return self.crashing.live

    @property
    def points(self) -> Points:
        return self.crashing.points

    def ask(self) -> Json:
        """Ask for a rehearsal that comes to every point."""
        return ask(self.live, self.backup, self.key, roll_forward="latest")

    def last(self) -> Json:
        found: Json = plain(self.live.services.rehearsals.list()["rehearsals"][0])
        return found


@pytest.fixture(scope="module")
def stopping(crashing: Crashing) -> Stopping:
    backup, key = crashing.live.backup()
    crashing.live.write(20)
    return Stopping(crashing, backup, key)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "point" in metafunc.fixturenames:
        metafunc.parametrize("point", some_or_every(metafunc.config, POINTS))


def test_killed_it_has_failed_and_nothing_is_left(stopping: Stopping, point: str) -> None:
    live, crashing = stopping.live, stopping.crashing
    crashing.rest()
    before = live.state()

    def body() -> None:
        # Whoever asks for one that is stopped as it is stored gets no answer.
        with suppress(UnavailableError):
            stopping.ask()

    crashing.points.arm(point)
    asking = threading.Thread(target=body)
    asking.start()
    crashing.points.wait(point)
    crashing.kill("restore")
    crashing.points.release()
    asking.join()
    crashing.wait_up()
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


@contextmanager
def stopped(stopping: Stopping, step: RehearsalStep) -> Iterator[Json]:
    """Stop a rehearsal at a step for as long as the block lasts; give what was asked for."""
    name = STEP_POINTS[step].name
    stopping.points.arm(name)
    try:
        asked = stopping.ask()
        stopping.points.wait(name)
        yield asked
    finally:
        stopping.points.release()


@pytest.mark.parametrize("step", [RehearsalStep.COMPARE, RehearsalStep.FOLD])
def test_cancelled_it_ends_and_nothing_is_left(stopping: Stopping, step: RehearsalStep) -> None:
    live = stopping.live
    before = live.state()
    with stopped(stopping, step) as asked:
        with pytest.raises(RehearsalInProgress):
            stopping.ask()
        live.services.rehearsals.cancel(asked["rehearsal_id"])
        # Where it looks again, long enough after it looked last.
        time.sleep(1)
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert (ended["state"], plain(ended["error"])["code"]) == ("cancelled", Cancelled.code)
    assert not scratch(live)
    assert live.state() == before


@pytest.mark.parametrize("step", [RehearsalStep.INDEXES, RehearsalStep.FOLD])
def test_a_restore_that_comes_meanwhile_does_not_wait_for_it(
    stopping: Stopping, step: RehearsalStep
) -> None:
    live = stopping.live
    with stopped(stopping, step) as asked:
        shown = live.services.rehearsals.get(asked["rehearsal_id"])
        assert shown["step"]
        assert scratch(live) <= {rehearsal_name(UUID(asked["rehearsal_id"]))}
        restored = live.restore(stopping.backup, stopping.key)
        assert restored["state"] == "restored", restored
        # It would have been waited for, and then ended, as an older transaction.
        assert restored["sessions_ended"] == 0
        assert live.digest() == stopping.backup["digest"]
    ended = live.services.rehearsals.wait(asked["rehearsal_id"])
    assert ended["outcome"] == "restorable", ended
    assert not scratch(live)
    assert live.digest() == stopping.backup["digest"]
