"""A backup and a restore that want the instance at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from backup_service import events as ev
from shared.errors import Cancelled, RestoreInProgress
from shared.messages.topics import BACKUP_EVENTS
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.live import Json, Live


@contextmanager
def held_reading(live: Live) -> Iterator[str]:
    """Keep a backup reading for as long as the block lasts; give its id."""
    with live.admin() as blocking, blocking.transaction():
        # The backup's readers wait for this lock.
        blocking.execute("LOCK TABLE instance.secret_versions IN ACCESS EXCLUSIVE MODE")
        running = str(live.services.backups.create("while a restore wants in")["backup_id"])
        step = "writing the archive"
        eventually(lambda: live.services.backups.get(running).get("step") == step, "it reads")
        yield running


@contextmanager
def held_fenced(live: Live, backup: Json, key: str) -> Iterator[str]:
    """Keep a restore behind its fence for as long as the block lasts; give its id."""
    with psycopg.connect(live.stack.postgres_admin()) as reader:
        reader.execute("SELECT count(*) FROM instance.projects")
        asked = str(live.start(key, backup_id=backup["backup_id"])["restore_id"])
        step = "waiting for older transactions"
        eventually(lambda: live.services.restores.get(asked).get("step") == step, "it is fenced")
        yield asked
        reader.rollback()


def test_a_running_backup_is_given_up_for_a_restore_that_asks_for_it(live: Live) -> None:
    backup, key = live.backup()
    with held_reading(live) as running:
        asked = live.start(key, backup_id=backup["backup_id"], cancel_running_backup=True)
        (told,) = live.events_about(BACKUP_EVENTS, ev.CANCEL_REQUESTED, running)
        assert told["backup_id"] == running
    assert live.services.restores.wait(asked["restore_id"])["state"] == "restored"
    ended = live.services.backups.wait(running)
    assert (ended["state"], plain(ended["error"])["code"]) == ("cancelled", Cancelled.code)


def test_behind_a_fence_a_backup_is_refused_at_once_or_queued_by_choice(live: Live) -> None:
    backup, key = live.backup()
    with held_fenced(live, backup, key) as restore_id:
        with pytest.raises(RestoreInProgress) as refusal:
            live.services.backups.create("not now")
        assert restore_id in refusal.value.message
        queued = live.services.backups.create("when it is over", wait_for_restore=True)
        other = live.services.backups.create("given up", wait_for_restore=True)
        live.services.backups.cancel(other["backup_id"])
    restored = live.services.restores.wait(restore_id)
    assert restored["state"] == "restored"
    made = live.services.backups.wait(queued["backup_id"])
    assert (made["state"], made["epoch"]) == ("created", restored["epoch"])
    assert live.services.backups.wait(other["backup_id"])["state"] == "cancelled"
