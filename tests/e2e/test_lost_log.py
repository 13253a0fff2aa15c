"""Kafka's disk is gone and PostgreSQL's is not: nothing is folded unasked, and life goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from backup_service.events import LOG_ADOPTED
from shared.errors import LogLost, LogNotEmpty, LogNotLost, NeedsArchive, TargetMismatch
from shared.messages.topics import BACKUP_EVENTS
from tests.disasters import (
    backed_up,
    digest,
    follow,
    instance,
    lose_the_log,
    projector_reason,
    published,
    restored,
    write,
)
from tests.plugins.instance import eventually
from tests.plugins.live import Json
from tests.plugins.stack import StackUnderTest

ENDS = [
    "beginning",
    pytest.param("end", marks=pytest.mark.long("the same; every run goes from the beginning")),
]


@pytest.fixture
def stack(new_stack: Callable[..., StackUnderTest]) -> StackUnderTest:
    made = new_stack()
    made.up()
    made.secryn("sample", "load")
    return made


def adopt(stack: StackUnderTest, start: str) -> Json:
    named = stack.status()["instance_id"]
    done = stack.secryn("instance", "adopt-log", "--instance", named, "--yes", "--from", start)
    document: Json = json.loads(done.stdout)
    return document


def refused_adoption(stack: StackUnderTest, *options: str, instance: str = "") -> str:
    named = instance or stack.status()["instance_id"]
    asked = ("instance", "adopt-log", "--instance", named, "--yes", *options)
    return str(stack.refusal(*asked)["code"])


def rehearsal(stack: StackUnderTest, backup: Json, key: Path) -> Json:
    done = stack.secryn(
        *("restore", "rehearse", "--backup", backup["backup_id"], "--key-file", str(key)),
        *("--instance", stack.status()["instance_id"]),
    )
    document: Json = json.loads(done.stdout)
    return document


def leave_the_fence_of(stack: StackUnderTest, restore_id: str) -> None:
    """Make the row that of a restore that was cut over and whose Restored never landed."""
    with psycopg.connect(stack.postgres_admin(), autocommit=True) as conn:
        conn.execute(
            "UPDATE instance.log_position SET fence_no = highest_fence_no, fence_restore_id = %s, "
            "fence_offset = position - 1, last_offset = NULL",
            (restore_id,),
        )


def test_the_store_adopts_the_new_log_and_a_fence_of_the_lost_one_falls(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    before, key = backed_up(stack, tmp_path)
    write(stack)
    done = restored(stack, before, key)
    assert refused_adoption(stack) == LogNotLost.code
    state = digest(stack)
    leave_the_fence_of(stack, done["restore_id"])
    lose_the_log(stack)

    eventually(lambda: LogLost.code in projector_reason(stack), "the status names what is lost")
    assert "secryn instance adopt-log" in projector_reason(stack)

    assert refused_adoption(stack, instance=done["restore_id"]) == TargetMismatch.code
    adopted = follow(stack, "adopt-log")
    assert (adopted["position"], adopted["epoch"]) == (0, 2)
    assert adopted["lowered_fence"]["restore_id"] == done["restore_id"]
    stack.wait_healthy()
    assert digest(stack) == state
    eventually(lambda: LOG_ADOPTED in published(stack, BACKUP_EVENTS), "the new topic has it")
    assert write(stack)["events"] > 0
    assert digest(stack) != state
    assert refused_adoption(stack) == LogNotLost.code

    # The backups of both logs restore; the fence's number is not used again.
    assert restored(stack, before, key)["epoch"] == 3
    assert digest(stack) == before["digest"]
    after, after_key = backed_up(stack, tmp_path)
    write(stack)
    assert restored(stack, after, after_key)["epoch"] == 4
    assert digest(stack) == before["digest"]
    stack.wait_healthy()


@pytest.mark.parametrize("start", ENDS)
def test_what_the_new_log_holds_already_is_applied_or_passed_over_as_was_said(
    stack: StackUnderTest, tmp_path: Path, start: str
) -> None:
    state, position = digest(stack), instance(stack)["position"]
    lose_the_log(stack)
    eventually(lambda: LogLost.code in projector_reason(stack), "the log is lost")
    # A writer that does not ask what happened: its event lands, and it is told that it is nowhere.
    asked = ("sample", "write", "--rate", "50", "--seconds", "0.5")
    assert stack.refusal(*asked)["code"] == LogLost.code
    assert stack.refusal("backup", "create", "--wait")["code"] == LogLost.code
    behind = follow(stack, "at-position", KEYFILE=tmp_path / "backup.key")
    assert (behind["behind"], behind["offset"], behind["digest"]) == (True, position, state)

    assert refused_adoption(stack) == LogNotEmpty.code
    adopted = follow(stack, "adopt-log-from") if start == "beginning" else adopt(stack, start)
    held = adopted["to_apply"] + adopted["passed_over"]
    assert held > 0
    assert adopted["position"] == (0 if start == "beginning" else held)
    stack.wait_healthy()
    eventually(lambda: instance(stack)["position"] >= held, "the log is followed")
    assert (digest(stack) == state) == (start == "end")
    assert write(stack)["events"] > 0


@pytest.mark.long("every run restores into an adopted log, and into one that is new")
def test_a_restore_is_the_other_way_out(stack: StackUnderTest, tmp_path: Path) -> None:
    backup, key = backed_up(stack, tmp_path)
    write(stack)
    lose_the_log(stack)
    eventually(lambda: LogLost.code in projector_reason(stack), "the log is lost")
    done = follow(stack, "restore", BACKUP=backup["backup_id"], KEYFILE=key)
    assert (done["state"], done["epoch"]) == ("restored", 2)
    stack.wait_healthy()
    assert digest(stack) == backup["digest"]
    assert write(stack)["events"] > 0
    assert refused_adoption(stack) == LogNotLost.code


@pytest.mark.long("test_adopt_log holds the rules of an adoption in every run")
@pytest.mark.parametrize("start", ENDS)
def test_a_state_rebuilt_from_an_adopted_log_stops_where_its_base_is_missing(
    stack: StackUnderTest, tmp_path: Path, start: str
) -> None:
    lose_the_log(stack)
    eventually(lambda: LogLost.code in projector_reason(stack), "the log is lost")
    if start == "end":
        stack.refusal("sample", "write", "--rate", "50", "--seconds", "0.5")
    adopt(stack, start)
    stack.wait_healthy()
    assert write(stack)["events"] > 0
    backup, key = backed_up(stack, tmp_path)
    file = tmp_path / "backup.age"
    stack.secryn("backup", "download", backup["backup_id"], "-o", str(file))
    rehearsed = rehearsal(stack, backup, key)
    # A log that was adopted does not tell what the state was before: it is no proof against it.
    assert (rehearsed["outcome"], rehearsed["proof"]["equivalent"]) == ("restorable", None)
    assert "adoption" in rehearsed["proof"]["equivalence"]["reason"]["message"]
    stack.down()
    shutil.rmtree(stack.state / "postgres" / "data")
    stack.secryn("up", check=False)
    eventually(lambda: NeedsArchive.code in projector_reason(stack), "it stops")
    again = stack.secryn(
        *("restore", "run", "--file", str(file), "--key-file", str(key), "--yes"),
        *("--instance", stack.status()["instance_id"]),
    )
    assert json.loads(again.stdout)["state"] == "restored"
    assert digest(stack) == backup["digest"]
    stack.wait_healthy()
    assert write(stack)["events"] > 0
