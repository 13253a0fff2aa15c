"""A maintenance window holds for the moment of the replacement, however long it took to get there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from backup_service.snapshot.guard import hold_guard
from cli.connect import connected
from restore_service import events as ev
from restore_service.context import RestoreContext
from restore_service.notice import give_notice
from restore_service.replace import raise_fence
from restore_service.run import Run, Step
from restore_service.timing import check_window
from shared.database import Lock, try_lock
from shared.errors import OutsideWindow
from tests.clock import HandClock
from tests.documents import plain
from tests.plugins.instance import eventually
from tests.plugins.postgres import TestPostgres
from tests.plugins.stack import StackUnderTest
from tests.restoring import META, Restoring

# A Tuesday; the window is open for another half an hour.
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
WINDOW = "tue 11:30-12:30"


@pytest.fixture
def restoring(postgres: TestPostgres, tmp_path: Path) -> Iterator[Restoring]:
    made = Restoring.create(postgres, tmp_path, clock=HandClock(NOON))
    yield made
    made.context.pool.close()


def run_of(restoring: Restoring, context: RestoreContext) -> Run:
    restore_id = restoring.requested()
    with context.transaction("a test") as conn:
        restore = context.history.load(conn, restore_id)
    return Run(context, restore, META, time.monotonic())


def checked_at(run: Run, moment: datetime, reason: str | None = None) -> None:
    check_window(run.context.settings.restore, reason, moment)


def test_a_time_that_lies_outside_is_announced_to_nobody(restoring: Restoring) -> None:
    context = restoring.with_restore_settings(windows=(WINDOW,), notice_text="A moment, please.")
    run = run_of(restoring, context)
    with pytest.raises(OutsideWindow) as refused:
        give_notice(run, 3600, lambda moment: checked_at(run, moment))
    assert WINDOW in refused.value.message
    assert ev.NOTICE_GIVEN not in restoring.types(run.id)
    give_notice(run, 0, lambda moment: checked_at(run, moment))
    assert restoring.types(run.id)[-1] == ev.NOTICE_GIVEN


def test_what_waited_for_a_backup_beyond_the_window_raises_no_fence(restoring: Restoring) -> None:
    context = restoring.with_restore_settings(windows=(WINDOW,))
    run, clock = run_of(restoring, context), context.clock
    assert isinstance(clock, HandClock)
    ended: list[BaseException] = []

    def body() -> None:
        try:
            raise_fence(run, uuid4(), check_time=lambda: checked_at(run, clock.now()))
        except OutsideWindow as error:
            ended.append(error)

    checked_at(run, clock.now())
    context.progress.begin(run.id)
    with hold_guard(context.settings.postgres.dsn, wait=False, look=lambda: None):
        thread = threading.Thread(target=body)
        thread.start()
        eventually(
            lambda: context.progress.of(run.id).get("step") == Step.GUARD, "it waits for the backup"
        )
        clock.pass_(hours=1)
    thread.join(20)
    assert len(ended) == 1
    assert restoring.types(run.id) == [ev.REQUESTED]
    with psycopg.connect(context.settings.postgres.dsn) as conn:
        assert try_lock(conn, Lock.GUARD), "nobody holds backups off any more"


def test_a_request_counts_with_the_lead_of_its_notice(restoring: Restoring) -> None:
    settings = restoring.with_restore_settings(
        windows=(WINDOW,), notice_text="A moment, please.", notice_lead_s=24 * 3600
    ).settings.restore
    # A day before the window is when to ask, and in the window itself is too late.
    assert settings.in_window(settings.begins_at(NOON - timedelta(days=1)))
    assert not settings.in_window(settings.begins_at(NOON))
    silent = settings.model_copy(update={"notice_text": None})
    assert silent.begins_at(NOON) == NOON


@pytest.mark.long("each of its checks is in every run")
def test_a_restore_that_comes_too_late_to_its_window_ends_untouched(
    new_stack: Callable[..., StackUnderTest], tmp_path: Path
) -> None:
    stack, file, key = new_stack(), tmp_path / "settings.toml", tmp_path / "key"
    closes = (datetime.now(UTC) + timedelta(seconds=90)).replace(second=0, microsecond=0)
    opens = closes - timedelta(hours=1)
    file.write_text(
        f'[restore.restore]\nwindows = ["{opens:%H:%M}-{closes:%H:%M}"]\n'
        'notice_text = "A moment, please."\n'
    )
    stack.up("--settings", str(file))
    stack.secryn("backup", "create", "--wait", "--key-file", str(key))
    with connected(stack.state) as services:
        (backup,) = services.backups.list()["backups"]
        named: dict[str, Any] = {
            "target_instance_id": services.instance_id,
            "key_file_text": key.read_text(),
            "reason": "a test",
            "backup_id": backup["backup_id"],
        }
        with hold_guard(stack.postgres_admin(), wait=False, look=lambda: None):
            asked = services.restores.start(**named)
            time.sleep(max(0.0, (closes - datetime.now(UTC)).total_seconds()))
        ended = plain(services.restores.wait(asked["restore_id"]))
        assert (ended["state"], ended["error"]["code"]) == ("failed", OutsideWindow.code), ended
        assert ended["notice"]["planned_at"] < closes.isoformat()
        with pytest.raises(OutsideWindow):
            services.restores.start(**named)
