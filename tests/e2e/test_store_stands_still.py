"""A projector that is stopped is seen on the page, however little the store is behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from backup_service.standstill import EVERY_S, STILL_AFTER_S
from deploy.embedded.folder import open_state
from shared.instance import events as ie
from tests import typed
from tests.plugins.live import Live
from tests.visiting import EVERYTHING, Visitor, add_person, visitor


@pytest.fixture
def admin(browser: Browser, live: Live) -> Iterator[Visitor]:
    add_person(live, "anna", *EVERYTHING)
    with visitor(browser, live) as found:
        found.sign_in("anna")
        yield found


def status_of(live: Live) -> dict[str, Any]:
    return dict(live.services.backups.connection.call("GET", "/api/v1/status"))


def statuses(live: Live) -> list[str]:
    """Return what `secryn status` shows on this machine, and from afar."""
    found, folder = live.stack.status(), open_state(live.stack.state)
    place = ["--url", found["backup_url"], "--restore-url", found["restore_url"]]
    return [
        typed.secryn(words, live.stack.environment, 60).stdout
        for words in (
            ["status", "--state", str(live.stack.state)],
            [*place, "--token-file", str(folder.token), "status"],
        )
    ]


def test_a_store_that_stands_still_is_said_to(admin: Visitor, live: Live) -> None:
    live.add_project(f"before {uuid4()}")
    assert status_of(live)["stands_still"] is False
    pid = live.stack.pids()["projector"]
    os.kill(pid, signal.SIGSTOP)
    try:
        written = live.append(ie.ProjectCreated(id=uuid4(), name=f"unseen {uuid4()}"))
        assert status_of(live)["stands_still"] is False, "a moment is not late"
        # Nobody asks: the service looks by itself, so that the first who does is told.
        time.sleep(STILL_AFTER_S + 2 * EVERY_S)
        found = status_of(live)
        assert found["stands_still"] is True
        assert 0 < found["lag"] < 10
        told = json.loads(live.stack.secryn("status").stdout)
        assert told["store"] == found
        for shown in statuses(live):
            assert f"THE STORE STANDS STILL at log offset {found['position']:,}" in shown
            assert "secryn instance skip-event" in shown
        page = admin.see("/admin/backups")
        assert page.get_by_text("Stands still").is_visible()
        assert page.get_by_text("The store does not follow the log").is_visible()
        admin.check()
    finally:
        os.kill(pid, signal.SIGCONT)
    live.platform.writer.wait_until_stored(written, 20)
    assert status_of(live)["stands_still"] is False
    assert not any("STANDS STILL" in shown for shown in statuses(live))
    assert admin.see("/admin/backups").get_by_text("In step").is_visible()
