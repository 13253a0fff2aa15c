"""When a restore may begin, who is told of it, and whether it fits: asked before anything moves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup_service.context import receipt_name
from cli.connect import connected
from deploy.embedded.folder import open_state
from deploy.embedded.keys import BACKUP_KEY
from restore_service import events as ev
from shared.archive.receipt import write_receipt
from shared.bodies.backups import BackupCreated
from shared.errors import OutsideWindow, RestoreNoSpace
from shared.kafka import Kafka
from shared.messages import CloudEvent, SigningKey
from shared.messages.topics import BACKUP_EVENTS, RESTORE_EVENTS
from shared.storage import LocalFolder
from tests.documents import plain
from tests.plugins.live import Live, stable_end
from tests.plugins.stack import StackUnderTest


def test_the_space_it_costs_is_told_beforehand(live: Live) -> None:
    space = plain(live.services.restores.space())
    assert space["kept_bytes"] > 1_000_000
    free_bytes = space["free_bytes"]
    if live.stack.superuser is None:
        assert free_bytes > space["kept_bytes"]
    else:
        # The disk of another's server may be out of sight.
        assert free_bytes is None or free_bytes > space["kept_bytes"]
    assert space["kept_s"] == 24 * 3600
    backup, key = live.backup()
    restore = live.restore(backup, key)
    needed = restore["checks"]["space"]["needed_bytes"]
    # What it said it needs, it needed: not less, and not far more.
    with live.admin() as conn:
        row = conn.execute(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname = 'instance' AND c.relkind = 'r'"
        ).fetchone()
    assert row is not None
    assert row[0] < needed < 4 * row[0]


def test_what_does_not_fit_is_known_from_the_receipt_before_anything_is_loaded(
    live: Live, tmp_path: Path
) -> None:
    backup, key = live.backup()
    (told,) = live.events_about(BACKUP_EVENTS, BackupCreated.TYPE, backup["backup_id"])
    folder = LocalFolder(live.stack.state / "backups")
    name = receipt_name(backup["backup_id"])
    receipt = live.stack.state / "backups" / name
    original = receipt.read_bytes()
    facts = json.loads(original)["receipt"]
    # The object is compressed: its size says less than it takes.
    assert facts["copy_bytes"] == told["copy_bytes"] > backup["size_bytes"]
    space = live.restore(backup, key)["checks"]["space"]
    assert (space["expected_by"], space["expected_bytes"]) == ("receipt", space["needed_bytes"])

    file = live.archive(backup, tmp_path)
    of_file = live.restore_file(file, key)["checks"]["space"]
    assert of_file["expected_by"] == "object_size"
    assert of_file["expected_bytes"] < of_file["needed_bytes"]

    signer = SigningKey.load(open_state(live.stack.state).key(BACKUP_KEY))
    write_receipt(folder, name, facts | {"copy_bytes": 1 << 50}, signer)
    try:
        before = live.state()
        ended = live.restore(backup, key)
        if space["free_bytes"] is not None:
            assert (ended["state"], ended["error"]["code"]) == ("failed", RestoreNoSpace.code)
            assert f"{3 << 49:,}"[:5] in ended["error"]["message"]
            assert "checks" not in ended, "it was refused before anything of it was read"
            assert live.state() == before
        # A receipt that nobody trusts says nothing.
        write_receipt(
            folder, name, facts | {"copy_bytes": 1 << 50}, SigningKey.create(tmp_path / "k")
        )
        untold = live.restore(backup, key)["checks"]["space"]
        assert untold["expected_by"] == "object_size"
    finally:
        receipt.write_bytes(original)


def told_of(stack: StackUnderTest) -> list[tuple[str, str]]:
    """Return the types of all events of restores, in order, and the restores they are about."""
    kafka = Kafka(stack.kafka("admin"), client_id="test")
    name = kafka.topic(RESTORE_EVENTS)
    found = []
    with kafka.admin() as admin, kafka.log_reader(name) as reader:
        for batch in reader.between(0, stable_end(admin, name)):
            events = [CloudEvent.from_kafka(record) for record in batch.records]
            found += [(e.type, str(json.loads(e.data).get("restore_id"))) for e in events]
    return found


def test_one_that_does_not_fit_is_refused_before_it_starts(
    given_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = given_stack()
    # The disk of somebody else's server is not seen.
    disk = {} if stack.superuser is None else {"database_folder": str(tmp_path)}
    stack.up_with({"restore": {"restore": disk | {"least_free_bytes": 1 << 60}}})
    key = tmp_path / "key"
    stack.secryn("backup", "create", "--wait", "--key-file", str(key))
    with connected(stack.state) as services:
        (backup,) = services.backups.list()["backups"]
        asked = services.restores.start(
            target_instance_id=services.instance_id,
            key_file_text=key.read_text(),
            reason="a test",
            backup_id=backup["backup_id"],
        )
        ended = services.restores.wait(asked["restore_id"])
    assert (ended["state"], plain(ended["error"])["code"]) == ("failed", RestoreNoSpace.code)


def test_outside_of_the_window_it_takes_a_reason_and_notice_is_given_and_ended(
    given_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack = given_stack()
    # Open for one minute of the week: whoever runs this test then may run it again.
    window = {"windows": ["sun 03:00-03:01"]}
    notice = {"notice_text": "Secrets cannot be changed for a moment.", "notice_lead_s": 2}
    stack.up_with({"restore": {"restore": window | notice}})
    key = tmp_path / "key"
    stack.secryn("backup", "create", "--wait", "--key-file", str(key))
    with connected(stack.state) as services:
        (backup,) = services.backups.list()["backups"]
        wanted: dict[str, Any] = {
            "target_instance_id": services.instance_id,
            "key_file_text": key.read_text(),
            "reason": "a test",
            "backup_id": backup["backup_id"],
        }
        with pytest.raises(OutsideWindow):
            services.restores.start(**wanted)
        asked = services.restores.start(**wanted, outside_window="it cannot wait")
        ended = plain(services.restores.wait(asked["restore_id"]))
        assert (ended["state"], ended["outside_window"]) == ("restored", "it cannot wait")
        assert ended["duration_s"] > 2
        # An undo asks for no window, and tells of itself at once.
        undo = services.restores.undo(target_instance_id=services.instance_id, reason="a test")
        undone = plain(services.restores.wait(undo["restore_id"]))
        assert (undone["state"], undone["checks"]["in_window"]) == ("restored", False)
        assert undone["notice"]["text"] == "Secrets cannot be changed for a moment."
        assert undone["duration_s"] < ended["duration_s"]
        asked = services.restores.start(**wanted, outside_window="it cannot wait")
        services.restores.cancel(asked["restore_id"])
        cancelled = services.restores.wait(asked["restore_id"])
        assert cancelled["state"] == "cancelled"
        told = told_of(stack)
    first = [kind for kind, restore_id in told if restore_id == ended["restore_id"]]
    assert first.index(ev.NOTICE_GIVEN) < first.index(ev.CUT_OVER) < first.index(ev.NOTICE_OVER)
    # Whoever waits for more than a second is told how far it is, too.
    assert ev.PROGRESSED in first[first.index(ev.NOTICE_GIVEN) : first.index(ev.CUT_OVER)]
    of_undo = [kind for kind, restore_id in told if restore_id == undone["restore_id"]]
    assert of_undo.index(ev.NOTICE_GIVEN) < of_undo.index(ev.CUT_OVER)
    assert of_undo.count(ev.NOTICE_GIVEN) == of_undo.count(ev.NOTICE_OVER) == 1
    second = [kind for kind, restore_id in told if restore_id == asked["restore_id"]]
    assert (ev.NOTICE_GIVEN in second) == (ev.NOTICE_OVER in second)
