"""A file from a browser that runs no script: streamed, whole or not at all, and only with its token."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_service.uploads import find_upload, open_upload
from tests.callers import Headers, House
from tests.plugins.postgres import TestPostgres

CONTENT = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def house(postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House.create(postgres, tmp_path_factory.mktemp("plain") / "house")
    with made.stack:
        yield made


def entered(house: House) -> tuple[Headers, str]:
    """Return the cookie of a new session, and the token that its forms carry."""
    headers = house.session("restore")
    return {"Cookie": headers["Cookie"]}, headers["X-CSRF-Token"]


def send(house: House, cookie: Headers, token: str | None, content: bytes = CONTENT) -> Any:
    client = house.apps["restore"].test_client(use_cookies=False)
    fields = {} if token is None else {"csrf_token": token}
    data = fields | {"file": (io.BytesIO(content), "a.age")}
    return client.post("/admin/restore/upload", data=data, headers=cookie)


def stored(house: House) -> list[str]:
    return [found.name for found in house.restoring.context.uploads.list()]


def test_a_form_brings_a_file_and_the_page_says_that_it_is_here(house: House) -> None:
    cookie, token = entered(house)
    answer = send(house, cookie, token)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    client = house.apps["restore"].test_client(use_cookies=False)
    page = client.get(answer.headers["Location"], headers=cookie).get_data(as_text=True)
    assert "The file is here: 3.1 MB" in page
    (upload_id,) = re.findall(r'name="upload_id" value="([^"]+)"', page)
    assert re.search(r'id="b-upload" value="upload" checked', page)
    uploads = house.restoring.context.uploads
    found = find_upload(uploads, upload_id)
    assert (found["complete"], found["sha256"]) == (True, hashlib.sha256(CONTENT).hexdigest())
    with open_upload(uploads, upload_id) as reader:
        assert reader.read() == CONTENT


@pytest.mark.parametrize("kind", ["missing", "wrong", "another session's"])
def test_without_the_sessions_token_nothing_is_stored(house: House, kind: str) -> None:
    cookie, _ = entered(house)
    token = {"missing": None, "wrong": "x", "another session's": entered(house)[1]}[kind]
    before = stored(house)
    answer = send(house, cookie, token)
    assert answer.status_code in {403, 409}
    assert stored(house) == before


def test_a_page_of_another_origin_brings_nothing(house: House) -> None:
    cookie, token = entered(house)
    before = stored(house)
    answer = send(house, cookie | {"Origin": "https://evil.example"}, token)
    assert answer.status_code == 403
    assert stored(house) == before


def test_no_file_and_one_that_is_too_large_are_said_on_the_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie, token = entered(house)
    before = stored(house)
    empty = send(house, cookie, token, b"")
    assert (empty.status_code, "no file is chosen" in empty.get_data(as_text=True)) == (400, True)
    settings = house.restoring.context.settings.restore
    monkeypatch.setitem(settings.__dict__, "upload_max_bytes", 1 << 20)
    large = send(house, cookie, token)
    assert large.status_code == 413
    assert "upload.too_large" in large.get_data(as_text=True)
    assert stored(house) == before


def test_what_broke_off_is_not_kept(house: House) -> None:
    cookie, token = entered(house)
    before = stored(house)
    head = (
        "--b\r\nContent-Disposition: form-data; name=csrf_token\r\n\r\n"
        f"{token}\r\n--b\r\nContent-Disposition: form-data; name=file; filename=a.age\r\n\r\n"
    )
    body = head.encode() + CONTENT
    client = house.apps["restore"].test_client(use_cookies=False)
    answer = client.post(
        "/admin/restore/upload", data=body, headers=cookie,
        content_type="multipart/form-data; boundary=b",
    )  # fmt: skip
    assert "broke off" in answer.get_data(as_text=True)
    assert stored(house) == before


def test_a_large_form_is_copied_nowhere_else(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither werkzeug's parser nor a temporary file sees it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(
        "werkzeug.formparser.default_stream_factory", lambda *_, **__: pytest.fail("a copy")
    )
    cookie, token = entered(house)
    assert send(house, cookie, token).status_code == 303
