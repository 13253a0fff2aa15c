"""A process of restore_service that stands still, and comes back when another one took over.

The first one is paused (SIGSTOP) with a restore in hand. PostgreSQL loses its sessions, all of
them (it failed over, or a router forgot them) or only the one by which it is known to live; or it
keeps them all, and the second process finds that they do not move. That one ends the restore. Then
the first one goes on where it stood.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest

from deploy.embedded.folder import open_state
from deploy.embedded.process import free_ports
from restore_service.events import ENDED
from shared.database import LIVENESS_SPACE
from tests.faults.restores import (
    ENDS_WITHIN_S,
    Scene,
    assert_sound,
    nothing_is_left,
    said_once,
    wait_ended,
    write_rudely,
)
from tests.plugins.faults import Crashing, some_or_every
from tests.plugins.instance import eventually

WAIT_S: Final = 40.0
_ROOT = Path(__file__).parents[2]
_EVERY = "SELECT pid FROM pg_stat_activity WHERE usename = 'secryn_restore'"
_LIVENESS = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
    f"AND classid = {LIVENESS_SPACE}"
)
_WAITING = (
    "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND NOT granted AND usename = 'secryn_restore'"
)


@pytest.fixture(scope="module")
def scene(crashing: Crashing) -> Scene:
    crashing.live.write(20)
    backup, key = crashing.live.backup()
    return Scene(crashing, backup, key)


@contextmanager
def second_process(scene: Scene) -> Iterator[None]:
    """Run another restore_service on the same place."""
    state = open_state(scene.live.stack.state)
    (port,) = free_ports(1)
    plain = {name: text for name, text in os.environ.items() if not name.startswith("SECRYN_")}
    with (state.root / "log" / "second.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "restore_service", "--config", str(state.config("restore"))],
            stdout=log,
            stderr=log,
            cwd=_ROOT,
            env=plain | {"SECRYN_HTTP__PORT": str(port)},
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def pids(conn: psycopg.Connection[tuple[int]], query: str) -> set[int]:
    return {row[0] for row in conn.execute(query.encode())}


def end_sessions(scene: Scene, query: str) -> None:
    with scene.live.admin() as conn:
        for pid in pids(conn, query):
            conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def is_over(scene: Scene) -> bool:
    """Tell whether somebody ended the restore, or waits for the first one to let him."""
    with scene.live.admin() as conn:
        return has_ended(scene) or bool(pids(conn, _WAITING))


def has_ended(scene: Scene) -> bool:
    """Tell whether the restore has ended, without a word with the process that is paused."""
    with scene.live.admin() as conn:
        row = conn.execute(
            "SELECT state FROM restore.restores WHERE restore_id = %s", (scene.restore_id(),)
        ).fetchone()
    return row is not None and row[0] in ENDED


POINTS: Final = [
    "restore.step.fence",
    "restore.step.load",
    "restore.step.prepare",
    "restore.step.cut_over",
    "restore.cut_over.uncommitted",
    "restore.abort.staging_dropped",
    "relay.sent",
]
LOST: Final = ["every session", "the session of its liveness"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lost" in metafunc.fixturenames:
        cases = [(point, lost) for point in POINTS for lost in LOST]
        metafunc.parametrize(("point", "lost"), some_or_every(metafunc.config, cases))
    if "holding" in metafunc.fixturenames:
        metafunc.parametrize("holding", some_or_every(metafunc.config, HOLDING))


def test_nothing_of_a_paused_process_gets_through_after_another_recovered(
    scene: Scene, point: str, lost: str
) -> None:
    crashing, live = scene.crashing, scene.live
    live.add_project(f"unwanted {point} {lost}")
    attempt = scene.attempt()
    if point == "restore.abort.staging_dropped":
        scene.stop_then(
            "restore.step.prepare", point, lambda: live.services.restores.cancel(scene.restore_id())
        )
    elif point == "relay.sent":
        scene.stop_then("restore.step.fence", point, scene.wait_relayed)
    else:
        crashing.points.arm(point)
        scene.ask()
    crashing.points.wait(point)
    paused = crashing.pids()["restore"]
    os.kill(paused, signal.SIGSTOP)
    try:
        crashing.points.release()
        rude, offset = write_rudely(live, attempt.epoch)
        end_sessions(scene, _EVERY if lost == "every session" else _LIVENESS)
        with second_process(scene):
            eventually(lambda: is_over(scene), "another one recovered", WAIT_S)
            os.kill(paused, signal.SIGCONT)
            ended = wait_ended(scene)
            eventually(lambda: both_live(scene), "it works again", WAIT_S)
            assert_sound(scene, attempt, ended, rude, offset)
    finally:
        os.kill(paused, signal.SIGCONT)
    # Its relay, too: there is only this one now.
    scene.restore()
    scene.wait_relayed()
    assert live.digest() == scene.backup["digest"]


# Where the first one has the staging schema in an open transaction, and where it has the store's tables.
HOLDING: Final = ["restore.cut_over.uncommitted", "restore.load.uncommitted"]


def test_a_process_that_stands_still_is_taken_over_and_holds_nothing_up(
    scene: Scene, holding: str
) -> None:
    crashing, live = scene.crashing, scene.live
    live.add_project(f"kept {holding}")
    attempt = scene.attempt()
    crashing.points.arm(holding)
    scene.ask()
    crashing.points.wait(holding)
    paused = crashing.pids()["restore"]
    with second_process(scene):
        os.kill(paused, signal.SIGSTOP)
        try:
            crashing.points.release()
            eventually(lambda: has_ended(scene), "another one took over", ENDS_WITHIN_S)
        finally:
            os.kill(paused, signal.SIGCONT)
        ended = wait_ended(scene)
        assert ended["state"] in ("failed", "aborted")
        eventually(lambda: both_live(scene), "it works again", WAIT_S)
        nothing_is_left(scene)
    said_once(scene, attempt, ended)
    assert live.digest() == attempt.kept


def both_live(scene: Scene) -> bool:
    """Tell whether both processes are known to live: what was in hand is over then."""
    with scene.live.admin() as conn:
        return len(pids(conn, _LIVENESS)) == 2
