"""PostgreSQL's disk is gone and Kafka's is not: the store is rebuilt from the log, or says why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from cli.connect import connected
from shared.errors import NeedsArchive
from tests.plugins.instance import eventually
from tests.plugins.live import Json
from tests.plugins.stack import StackUnderTest


def digest(stack: StackUnderTest) -> str:
    return str(json.loads(stack.secryn("instance", "digest").stdout)["digest"])


def instance(stack: StackUnderTest) -> Json:
    document: Json = json.loads(stack.secryn("instance", "show").stdout)
    return document


def write(stack: StackUnderTest) -> None:
    stack.secryn("sample", "write", "--rate", "100", "--seconds", "0.5")


def backed_up(stack: StackUnderTest, folder: Path) -> tuple[Json, Path, Path]:
    """Make a backup and take it away; return it, its file and its key file."""
    key = folder / f"key-{len(list(folder.iterdir()))}"
    done = stack.secryn("backup", "create", "--wait", "--key-file", str(key))
    backup: Json = json.loads(done.stdout)
    file = folder / f"{backup['backup_id']}.age"
    stack.secryn("backup", "download", backup["backup_id"], "-o", str(file))
    return backup, file, key


def restore(stack: StackUnderTest, file: Path, key: Path, source: str | None = None) -> Json:
    done = stack.secryn(
        *("restore", "run", "--file", str(file), "--key-file", str(key)),
        *("--instance", stack.status()["instance_id"], "--yes"),
        *(() if source is None else ("--source-instance", source)),
    )
    document: Json = json.loads(done.stdout)
    return document


def lose_the_database(stack: StackUnderTest) -> None:
    stack.down()
    shutil.rmtree(stack.state / "postgres" / "data")


def test_a_log_without_restores_gives_the_whole_instance_back(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = new_stack()
    stack.up()
    stack.secryn("sample", "load")
    before = digest(stack)
    lose_the_database(stack)
    stack.up()
    eventually(lambda: digest(stack) == before, "the log is folded again")


def test_a_restore_that_died_with_the_database_is_aborted_and_what_follows_counts(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = new_stack()
    stack.up()
    backup, _, key = backed_up(stack, tmp_path)
    write(stack)
    before = digest(stack)
    reader = psycopg.connect(stack.postgres_admin())
    with closing(reader), connected(stack.state) as found:
        # An old transaction holds the cut-over up: the fence stands, nothing is decided.
        reader.execute("SELECT count(*) FROM instance.projects")
        asked = found.restores.start(
            target_instance_id=found.instance_id,
            key_file_text=key.read_text(),
            reason="to be lost",
            backup_id=backup["backup_id"],
        )
        eventually(
            lambda: (
                found.restores.get(asked["restore_id"]).get("step")
                == "waiting for older transactions"
            ),
            "everything is loaded",
        )
        stack.kill("supervisor")
        for name in ("restore", "projector", "backup", "postgres"):
            stack.kill(name)
    lose_the_database(stack)
    stack.up()
    eventually(lambda: digest(stack) == before, "the log is folded up to the fence")
    eventually(lambda: instance(stack)["fence"] is None, "the fence that nobody owns is lowered")
    write(stack)
    stack.wait_healthy()
    assert digest(stack) != before


@pytest.mark.long("roll_forward follows a log past restores and undos in every run")
def test_the_log_leads_past_a_restore_and_an_undo_of_its_own_backups(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = new_stack()
    stack.up()
    stack.secryn("sample", "load")
    _, file, key = backed_up(stack, tmp_path)
    write(stack)
    restore(stack, file, key)
    write(stack)
    restore(stack, file, key)
    write(stack)
    stack.secryn("restore", "undo", "--instance", stack.status()["instance_id"], "--yes")
    write(stack)
    before, epoch = digest(stack), instance(stack)["epoch"]
    lose_the_database(stack)
    stack.up()
    eventually(lambda: digest(stack) == before, "the log is retraced", timeout_s=60)
    assert instance(stack)["epoch"] == epoch == 4
    write(stack)
    again, again_file, again_key = backed_up(stack, tmp_path)
    assert restore(stack, again_file, again_key)["epoch"] == 5
    assert digest(stack) == again["digest"]


@pytest.mark.long("roll_forward refuses a way across a restore from another log in every run")
def test_a_log_with_a_restore_from_another_log_is_never_folded_past_it_and_a_restore_is_the_way_out(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    source = new_stack()
    source.up()
    source.secryn("sample", "load")
    first, file, key = backed_up(source, tmp_path)
    origin = source.status()["instance_id"]
    source.down()
    stack = new_stack()
    stack.up()
    assert restore(stack, file, key, origin)["epoch"] == 2
    write(stack)
    last, last_file, last_key = backed_up(stack, tmp_path)
    lose_the_database(stack)
    # The stack stays up for whoever has to act, whether or not this waits to say so.
    stack.secryn("up", check=False)

    found = stack.wait(lambda status: not status["healthy"])
    projector = next(p for p in found["processes"] if p["name"] == "projector")
    assert NeedsArchive.code in projector["reason"]
    assert first["backup_id"] in projector["reason"]
    # Whatever recovers in the meantime: the store does not go on as if nothing were missing.
    done = stack.secryn("sample", "write", "--rate", "10", "--seconds", "6")
    kept_out = json.loads(done.stdout)
    assert (kept_out["events"], kept_out["fences_met"] > 0) == (0, True)
    assert not stack.status()["healthy"]

    restored = restore(stack, last_file, last_key)
    assert digest(stack) == last["digest"]
    # No epoch comes twice: the log has had 2.
    assert restored["epoch"] == 3
    stack.wait_healthy()
    write(stack)
    again, again_file, again_key = backed_up(stack, tmp_path)
    assert restore(stack, again_file, again_key)["epoch"] == 4
    assert digest(stack) == again["digest"]
