"""The database is gone with the services' history; the objects and their receipts are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.archive.age import HybridIdentity
from shared.archive.keyfile import check_key_file
from shared.errors import ArchiveAltered, KeyExpired, SignerUntrusted
from shared.messages.topics import BACKUP_EVENTS
from tests.disasters import backed_up, digest, follow, published, restored, write
from tests.plugins.instance import eventually
from tests.plugins.live import Json
from tests.plugins.stack import StackUnderTest


def history(stack: StackUnderTest) -> list[Json]:
    found: list[Json] = json.loads(stack.secryn("backup", "list").stdout)["backups"]
    return found


@pytest.mark.long("another machine adopts every receipt, and restores, in every run")
def test_the_history_is_rebuilt_from_the_receipts_and_restores(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = new_stack()
    stack.up()
    stack.secryn("sample", "load")
    first, key = backed_up(stack, tmp_path)
    write(stack)
    asked = json.loads(stack.secryn("backup", "create", "--reason", "its key waits").stdout)
    eventually(lambda: history(stack)[0]["state"] == "created", "the second one is made")
    write(stack)
    own = HybridIdentity.generate().to_recipient().encode()
    third = json.loads(stack.secryn("backup", "create", "--wait", "--recipient", own).stdout)
    damaged, _ = backed_up(stack, tmp_path)
    before, state = history(stack), digest(stack)
    same = ("backup_id", "state", "offset", "sha256", "size_bytes", "digest", "reason", "location")

    stack.down()
    shutil.rmtree(stack.state / "postgres" / "data")
    with (stack.state / "backups" / f"{damaged['backup_id']}.age").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
    stack.up()
    eventually(lambda: digest(stack) == state, "the log is folded again")
    assert history(stack) == []

    done = stack.secryn("backup", "adopt", "--all", check=False)
    report = json.loads(done.stdout)
    assert (report["adopted"], report["known"], report["refused"]) == (3, 0, 1)
    assert done.returncode == ArchiveAltered.exit_code
    (bad,) = [one for one in report["backups"] if one["outcome"] == "refused"]
    assert (bad["backup_id"], bad["code"]) == (damaged["backup_id"], ArchiveAltered.code)

    assert [[one[name] for name in same] for one in history(stack)] == [
        [one[name] for name in same] for one in before if one["backup_id"] != damaged["backup_id"]
    ]
    shown = json.loads(stack.secryn("backup", "show", asked["backup_id"]).stdout)
    assert (shown["key_state"], shown["adopted_by"]) == ("gone", "operator")
    assert stack.refusal("key", "view", asked["backup_id"])["code"] == KeyExpired.code
    assert json.loads(stack.secryn("backup", "verify", third["backup_id"]).stdout)["intact"]
    target = tmp_path / "downloaded.age"
    stack.secryn("backup", "download", first["backup_id"], "-o", str(target))
    assert check_key_file(key, target)["belong_together"]
    assert published(stack, BACKUP_EVENTS).count("com.secryn.backup.adopted.v1") == 3

    (stack.state / "backups" / f"{damaged['backup_id']}.receipt.json").unlink()
    stack.down()
    assert len(follow(stack, "adopt-all")["backups"]) == 3
    again = stack.secryn("backup", "adopt", first["backup_id"], third["backup_id"])
    assert json.loads(again.stdout)["known"] == 2
    assert restored(stack, first, key)["state"] == "restored"
    assert digest(stack) == first["digest"]


def test_another_machine_adopts_the_storage_of_a_lost_one(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    lost = new_stack()
    lost.up()
    lost.secryn("sample", "load")
    backup, key = backed_up(lost, tmp_path)
    place = lost.status()["instance_id"]
    lost.down()

    stack = new_stack()
    stack.up()
    stack.down()
    shutil.rmtree(stack.state / "backups")
    shutil.copytree(lost.state / "backups", stack.state / "backups")
    stack.up()
    done = stack.secryn("backup", "adopt", backup["backup_id"], check=False)
    (refused,) = json.loads(done.stdout)["backups"]
    assert refused["code"] == SignerUntrusted.code
    assert backup["signer"] in refused["message"]
    stack.down()
    restore = follow(
        stack,
        "adopt-trusted",
        SIGNER=backup["signer"],
        BACKUP=backup["backup_id"],
        KEYFILE=key,
        LOST=place,
    )
    assert restore["state"] == "restored"
    assert digest(stack) == backup["digest"]
    (adopted,) = history(stack)
    assert (adopted["instance_id"], adopted["trusted_by"]) == (place, "caller")
