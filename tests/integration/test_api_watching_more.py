"""Previews and runs of retention are watched as backups and restores are: events, or long polling."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest

from backup_service.handlers.apply_retention import apply_waiting
from restore_service.previews import AcceptedPreview
from tests.integration.test_api_watching import events
from tests.plugins.postgres import TestPostgres
from tests.serving_api import BEARER, BackupServer, RestoreServer, served


@pytest.fixture(scope="module")
def restores(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = RestoreServer.create(postgres, tmp_path_factory.mktemp("restores"))
    with served(made.app, made.board, made.context.settings.http) as address:
        yield made, address
    made.context.pool.close()


@pytest.fixture(scope="module")
def backups(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("backups")
    made = BackupServer.create(postgres, folder)
    with served(made.app, made.board, made.context.settings.http) as address:
        yield made, address
    made.context.pool.close()


def asked(server: RestoreServer) -> str:
    """Let a preview wait for its turn; return its id."""
    preview_id = str(uuid4())
    document = {
        "preview_id": preview_id, "state": "requested", "backup_id": None, "roll_forward": None,
        "error": None,
    }  # fmt: skip
    server.context.previews.add(cast(AcceptedPreview, SimpleNamespace(id=preview_id)), document)
    return preview_id


FAULT = {"code": "interrupted", "message": "a test", "hint": "none"}
ENDED = {"state": "failed", "error": FAULT}


def test_a_preview_is_followed_from_its_request_to_its_end(
    restores: tuple[RestoreServer, str],
) -> None:
    server, url = restores
    preview_id = asked(server)
    path = f"{url}/api/v1/previews/{preview_id}/events"
    with httpx.stream("GET", path, headers=BEARER, timeout=30) as answer:
        seen = events(answer.iter_lines())
        states = [next(seen)]
        server.context.previews.take()
        states.append(next(seen))
        server.context.previews.end(preview_id, ENDED)
        states.append(next(seen))
        assert [event["event"] for event in seen] == ["end"]
    told = [(json.loads(event["data"])["state"], event["id"]) for event in states]
    assert told == [("requested", "1"), ("running", "2"), ("failed", "3")]
    again = httpx.get(path, headers=BEARER | {"Last-Event-ID": "3"})
    assert again.status_code == 204


def test_who_cannot_follow_waits_for_the_next_change_of_a_preview(
    restores: tuple[RestoreServer, str],
) -> None:
    server, url = restores
    preview_id = asked(server)
    path = f"{url}/api/v1/previews/{preview_id}"
    known = httpx.get(path, headers=BEARER).headers["ETag"]
    unchanged = httpx.get(path, headers=BEARER | {"If-None-Match": known})
    assert unchanged.status_code == 304
    server.context.previews.take()
    ending = threading.Timer(0.5, server.context.previews.end, (preview_id, ENDED))
    running = httpx.get(path, headers=BEARER).headers["ETag"]
    ending.start()
    found = httpx.get(
        path, params={"wait_s": 20}, headers=BEARER | {"If-None-Match": running}, timeout=30
    )
    ending.join()
    assert found.json()["state"] == "failed"


@pytest.mark.parametrize("ending", ["", "/events"])
def test_a_preview_that_is_gone_is_not_waited_for(
    restores: tuple[RestoreServer, str], ending: str
) -> None:
    _, url = restores
    answer = httpx.get(f"{url}/api/v1/previews/{uuid4()}{ending}", headers=BEARER)
    assert (answer.status_code, answer.json()["code"]) == (404, "preview.not_found")


def test_a_run_of_retention_says_where_to_watch_it_and_is_followed_to_its_end(
    backups: tuple[BackupServer, str],
) -> None:
    server, url = backups
    body = {"command_id": str(uuid4()), "reason": "a test"}
    accepted = httpx.post(f"{url}/api/v1/retention/runs", headers=BEARER, json=body)
    assert accepted.status_code == 202, accepted.text
    place = url + accepted.headers["Location"]
    known = httpx.get(place, headers=BEARER)
    assert known.json()["state"] == "requested"
    with httpx.stream("GET", f"{place}/events", headers=BEARER, timeout=30) as answer:
        seen = events(answer.iter_lines())
        assert json.loads(next(seen)["data"])["state"] == "requested"
        apply_waiting(server.context)
        last = next(seen)
        assert json.loads(last["data"])["state"] in ("applied", "failed")
        assert [event["event"] for event in seen] == ["end"]
    tag = known.headers["ETag"]
    changed = httpx.get(place, params={"wait_s": 5}, headers=BEARER | {"If-None-Match": tag})
    assert changed.status_code == 200
