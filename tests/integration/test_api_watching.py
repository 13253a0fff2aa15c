"""Watching a backup over HTTP: events with resume, long polling, and what too many watchers get."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.client import BackupClient, ServiceConnection
from tests.plugins.postgres import TestPostgres
from tests.serving_api import BEARER, TOKEN, BackupServer, served

SLOTS = 3


@pytest.fixture(scope="module")
def backups(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("backups")
    made = BackupServer.create(postgres, folder, watchers=SLOTS)
    yield made
    made.context.pool.close()


@pytest.fixture(scope="module")
def url(backups: BackupServer) -> Iterator[str]:
    with served(backups.app, backups.board, backups.context.settings.http) as address:
        yield address


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Read a stream as a browser does."""
    event: dict[str, str] = {}
    for line in lines:
        if not line:
            if "event" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def follow(url: str, backup_id: str, **headers: str) -> Any:
    path = f"{url}/api/v1/backups/{backup_id}/events"
    return httpx.stream("GET", path, headers=BEARER | headers, timeout=30)


def test_nobody_watches_what_is_not_there(url: str) -> None:
    nothing = "0d0f1f7a-7d2e-4b1c-9a55-3f1a4c1be0ff"
    answer = httpx.get(f"{url}/api/v1/backups/{nothing}/events", headers=BEARER)
    assert (answer.status_code, answer.json()["code"]) == (404, "backup.not_found")


def test_a_watcher_sees_every_state_and_the_progress_between_and_then_the_end(
    backups: BackupServer, url: str
) -> None:
    backup_id = backups.running()
    with follow(url, backup_id) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        seen = events(answer.iter_lines())
        first = next(seen)
        assert (first["event"], json.loads(first["data"])["state"]) == ("state", "running")
        backups.context.progress.step(backup_id, "copying", 100)
        progress = next(seen)
        assert (progress["event"], json.loads(progress["data"])["step"]) == ("progress", "copying")
        assert "id" not in progress
        backups.finish(backup_id)
        rest = [(e["event"], e.get("id")) for e in seen]
    assert rest[-1] == ("end", None)
    (created,) = {identity for name, identity in rest if name == "state"}
    assert created is not None
    assert int(created) > int(first["id"])


def test_one_who_comes_back_gets_what_happened_meanwhile_and_nothing_twice(
    backups: BackupServer, url: str
) -> None:
    backup_id = backups.running()
    with follow(url, backup_id) as answer:
        first = next(events(answer.iter_lines()))
    with follow(url, backup_id, **{"Last-Event-ID": first["id"]}) as answer:
        # Nothing has happened: this moment's progress, and no state a second time.
        assert next(events(answer.iter_lines()))["event"] == "progress"
    backups.finish(backup_id)
    with follow(url, backup_id, **{"Last-Event-ID": first["id"]}) as answer:
        (state, end) = (e for e in events(answer.iter_lines()) if e["event"] != "progress")
    assert json.loads(state["data"])["state"] == "created"
    assert end["event"] == "end"
    with follow(url, backup_id, **{"Last-Event-ID": state["id"]}) as answer:
        assert answer.status_code == 204


def test_a_long_poll_is_answered_by_a_change_and_otherwise_says_that_there_was_none(
    backups: BackupServer, url: str
) -> None:
    backup_id = backups.running()
    path = f"{url}/api/v1/backups/{backup_id}"
    known = httpx.get(path, headers=BEARER).headers["ETag"]
    began = time.monotonic()
    unchanged = httpx.get(f"{path}?wait_s=1", headers=BEARER | {"If-None-Match": known})
    assert (unchanged.status_code, unchanged.headers["ETag"]) == (304, known)
    assert time.monotonic() - began >= 1
    threading.Timer(0.5, backups.finish, (backup_id,)).start()
    changed = httpx.get(f"{path}?wait_s=20", headers=BEARER | {"If-None-Match": known}, timeout=30)
    assert changed.json()["state"] in ("running", "created")
    assert time.monotonic() - began < 15


def operations(url: str, after: int, known: str | None = None, **asked: str) -> Any:
    headers = BEARER | ({} if known is None else {"Last-Event-ID": known})
    path = f"{url}/api/v1/operations/events"
    return httpx.stream("GET", path, params={"after": after, **asked}, headers=headers, timeout=30)


def told(answer: Any, changes: int) -> list[tuple[str, str, str]]:
    """Return the first changes that come: the id of the event, what was changed, its outcome."""
    seen = events(answer.iter_lines())
    found = []
    for _ in range(changes):
        event = next(seen)
        assert event["event"] == "operation"
        change = json.loads(event["data"])
        assert event["id"] == str(change["position"])
        found.append((event["id"], change["subject"], change["outcome"]))
    return found


def test_the_list_of_operations_tells_of_each_change_and_whoever_comes_back_misses_none(
    backups: BackupServer, url: str
) -> None:
    path = f"{url}/api/v1/operations"
    position = httpx.get(path, headers=BEARER).json()["position"]
    with operations(url, position) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        first = backups.running()
        ((cut_off_at, subject, _),) = told(answer, 1)[-1:]
    assert subject == first
    backups.finish(first)
    second = backups.running()
    with operations(url, position, cut_off_at) as answer:
        came = told(answer, 2)
    assert [(subject, outcome) for _, subject, outcome in came] == [
        (first, "succeeded"), (second, "running"),
    ]  # fmt: skip
    backups.finish(second)
    with operations(url, position, kind="key_view") as answer:
        # Nothing of this kind has happened: it is told from where to come back, and waits.
        assert next(answer.iter_lines()) == "retry: 500"
    refused = httpx.get(f"{path}/events?after=0", headers=BEARER | {"Last-Event-ID": "yesterday"})
    assert (refused.status_code, refused.json()["code"]) == (400, "usage.invalid")


def test_the_client_waits_for_the_end(backups: BackupServer, url: str) -> None:
    backup_id = backups.running()
    threading.Timer(0.5, backups.finish, (backup_id,)).start()
    with ServiceConnection(url, TOKEN) as connection:
        assert BackupClient(connection).wait(backup_id)["state"] == "created"


def test_one_watcher_too_many_is_told_to_come_back_and_delays_nobody(
    backups: BackupServer, url: str
) -> None:
    backup_id = backups.running()
    watching = [follow(url, backup_id) for _ in range(SLOTS)]
    for each in watching:
        next(each.__enter__().iter_raw())
    try:
        refused = httpx.get(f"{url}/api/v1/backups/{backup_id}/events", headers=BEARER)
        assert (refused.status_code, refused.json()["code"]) == (503, "watch.busy")
        assert refused.headers["Retry-After"]
        path = f"{url}/api/v1/backups/{backup_id}"
        known = httpx.get(path, headers=BEARER).headers["ETag"]
        began = time.monotonic()
        # Who cannot wait is answered at once.
        assert httpx.get(
            f"{path}?wait_s=20", headers=BEARER | {"If-None-Match": known}, timeout=30
        ).status_code in (200, 304)
        assert time.monotonic() - began < 10
    finally:
        for each in watching:
            each.__exit__(None, None, None)
        backups.finish(backup_id)
