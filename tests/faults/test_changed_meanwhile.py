"""What is changed about the store after a restore looked, and before it replaced it, counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from tests.faults.restores import Scene, wait_ended
from tests.plugins.faults import Crashing

# Rights are copied, and dependents looked for the last time but one, before this.
STOPPED_AT: Final = "restore.step.drain"


@pytest.fixture(scope="module")
def scene(crashing: Crashing) -> Scene:
    crashing.live.write(5)
    backup, key = crashing.live.backup()
    return Scene(crashing, backup, key)


@pytest.fixture
def reader(scene: Scene) -> Iterator[str]:
    """Make a role that may read settings, and nothing else."""
    role = "reads_meanwhile"
    execute(
        scene,
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA instance TO {role}; "
        f"GRANT SELECT ON instance.settings TO {role}",
    )
    yield role
    execute(scene, f"DROP OWNED BY {role}; DROP ROLE {role}")


def execute(scene: Scene, statements: str) -> None:
    with scene.live.admin() as conn:
        conn.execute(statements.encode())


def stop_and(scene: Scene, statements: str) -> dict[str, object]:
    """Restore, and have ``statements`` done right before the cut-over; return how it ended."""
    points = scene.crashing.points
    points.arm(STOPPED_AT)
    scene.ask()
    points.wait(STOPPED_AT)
    execute(scene, statements)
    points.release()
    return wait_ended(scene)


def may(scene: Scene, role: str, table: str) -> bool:
    with scene.live.admin() as conn:
        row = conn.execute("SELECT has_table_privilege(%s, %s, 'SELECT')", (role, table)).fetchone()
    return bool(row and row[0])


def test_a_right_that_is_taken_or_given_meanwhile_is_taken_or_given(
    scene: Scene, reader: str
) -> None:
    ended = stop_and(
        scene,
        f"REVOKE SELECT ON instance.settings FROM {reader}; "
        f"GRANT SELECT ON instance.projects TO {reader}",
    )
    assert ended["state"] == "restored"
    assert not may(scene, reader, "instance.settings")
    assert may(scene, reader, "instance.projects")


def test_a_view_that_is_made_meanwhile_ends_the_restore_and_is_named(scene: Scene) -> None:
    before = scene.live.digest()
    ended = stop_and(scene, "CREATE VIEW public.meanwhile AS SELECT * FROM instance.settings")
    try:
        error = ended["error"]
        assert isinstance(error, dict)
        assert (ended["state"], error["code"]) == ("aborted", "restore.dependent_objects")
        assert "view meanwhile" in error["message"]
        assert scene.live.digest() == before
    finally:
        execute(scene, "DROP VIEW public.meanwhile")
    scene.restore()
