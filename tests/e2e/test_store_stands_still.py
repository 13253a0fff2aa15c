"""A projector that is stopped is seen on the page, however little the store is behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from shared.instance import events as ie
from tests.plugins.instance import eventually
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


def test_a_store_that_stands_still_is_said_to(admin: Visitor, live: Live) -> None:
    live.add_project(f"before {uuid4()}")
    assert status_of(live)["stands_still"] is False
    pid = live.stack.pids()["projector"]
    os.kill(pid, signal.SIGSTOP)
    try:
        written = live.append(ie.ProjectCreated(id=uuid4(), name=f"unseen {uuid4()}"))
        assert status_of(live)["stands_still"] is False, "a moment is not late"
        eventually(lambda: status_of(live)["stands_still"], "it is late", 30)
        assert 0 < status_of(live)["lag"] < 10
        page = admin.see("/admin/backups")
        assert page.get_by_text("Stands still").is_visible()
        assert page.get_by_text("The store does not follow the log").is_visible()
        admin.check()
    finally:
        os.kill(pid, signal.SIGCONT)
    live.platform.writer.wait_until_stored(written, 20)
    assert status_of(live)["stands_still"] is False
    assert admin.see("/admin/backups").get_by_text("In step").is_visible()
