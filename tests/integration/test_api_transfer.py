"""Objects down and archives up: parts of them, broken connections, what does not belong there."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from flask.testing import FlaskClient

from restore_service.uploads import open_upload
from shared.client import BackupClient, RestoreClient, ServiceConnection, transfer
from shared.errors import ArchiveAltered
from tests.plugins.postgres import TestPostgres
from tests.serving_api import BEARER, TOKEN, BackupServer, RestoreServer, new_id, served

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
PIECE = {"Content-Type": "application/partial-upload", **BEARER}


@pytest.fixture(scope="module")
def backups(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BackupServer]:
    made = BackupServer.create(postgres, tmp_path_factory.mktemp("backups"))
    yield made
    made.context.pool.close()


@pytest.fixture(scope="module")
def restores(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestoreServer]:
    made = RestoreServer.create(postgres, tmp_path_factory.mktemp("restores"))
    yield made
    made.context.pool.close()


@pytest.fixture(scope="module")
def path(backups: BackupServer) -> str:
    return f"/api/v1/backups/{backups.created(CONTENT)}/content"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=2999990-", 206, slice(SIZE - 10, SIZE)),
        ("bytes=-5", 206, slice(SIZE - 5, SIZE)),
        ("bytes=10-99999999", 206, slice(10, SIZE)),
        ("bytes=-99999999", 206, slice(0, SIZE)),
        # What is not understood, or several, is passed over (RFC 9110, section 14.2).
        ("bytes=0-1,5-6", 200, slice(0, SIZE)),
        ("bytes=9-2", 200, slice(0, SIZE)),
        ("lines=1-2", 200, slice(0, SIZE)),
        ("bytes", 200, slice(0, SIZE)),
    ],
)
def test_a_part_is_what_was_asked_for(
    backups: BackupServer, path: str, asked: str, status: int, part: slice
) -> None:
    answer = backups.app.test_client().get(path, headers=BEARER | {"Range": asked})
    assert answer.status_code == status
    assert answer.data == CONTENT[part]
    assert answer.headers["ETag"] == f'"{SHA256}"'
    digest = base64.b64encode(bytes.fromhex(SHA256)).decode()
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    if status == 206:
        told = f"bytes {part.start}-{part.stop - 1}/{SIZE}"
        assert answer.headers["Content-Range"] == told


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}"])
def test_a_part_beyond_the_end_is_refused_with_the_size(
    backups: BackupServer, path: str, asked: str
) -> None:
    answer = backups.app.test_client().get(path, headers=BEARER | {"Range": asked})
    assert (answer.status_code, answer.get_json()["code"]) == (416, "usage.range")
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"


def test_a_part_of_another_object_is_given_whole_and_a_known_one_not_at_all(
    backups: BackupServer, path: str
) -> None:
    client = backups.app.test_client()
    wanted = BEARER | {"Range": "bytes=5-"}
    assert client.get(path, headers=wanted | {"If-Range": '"another"'}).status_code == 200
    assert client.get(path, headers=wanted | {"If-Range": f'"{SHA256}"'}).status_code == 206
    known = client.get(path, headers=BEARER | {"If-None-Match": f'"{SHA256}"'})
    assert (known.status_code, known.data) == (304, b"")
    head = client.head(path, headers=BEARER)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(SIZE))


def piece(
    browser: FlaskClient, upload_id: str, start: int, end: int, total: int = SIZE
) -> tuple[int, str]:
    headers = PIECE | {"Upload-Offset": str(start), "Upload-Length": str(total)}
    answer = browser.patch(f"/api/v1/uploads/{upload_id}", data=CONTENT[start:end], headers=headers)
    document = answer.get_json()
    return answer.status_code, document.get("code") or answer.headers["Upload-Offset"]


def test_an_upload_in_pieces_is_the_same_as_in_one(restores: RestoreServer) -> None:
    browser, upload_id = restores.app.test_client(), new_id()
    cuts = [0, 1_000_000, 1_000_007, SIZE]
    for start, end in pairwise(cuts):
        assert piece(browser, upload_id, start, end) == (201 if end == SIZE else 202, str(end))
    document = browser.get(f"/api/v1/uploads/{upload_id}", headers=BEARER).get_json()
    assert document["sha256"] == SHA256
    assert document["complete"] is True
    with open_upload(restores.context.uploads, upload_id) as reader:
        assert b"".join(iter(lambda: reader.read(65_536), b"")) == CONTENT


@pytest.mark.parametrize(
    ("start", "end", "total", "code"),
    [
        (5, 10, SIZE, "upload.offset"),
        (0, 10, 5, "upload.offset"),
        (0, 10, 1 << 59, "upload.too_large"),
    ],
)
def test_a_piece_that_does_not_fit_changes_nothing(
    restores: RestoreServer, start: int, end: int, total: int, code: str
) -> None:
    browser, upload_id = restores.app.test_client(), new_id()
    assert piece(browser, upload_id, start, end, total)[1] == code
    answer = browser.get(f"/api/v1/uploads/{upload_id}", headers=BEARER)
    assert answer.get_json()["code"] == "upload.not_found"


def test_the_same_piece_again_is_refused_and_a_finished_upload_takes_no_more(
    restores: RestoreServer,
) -> None:
    browser, upload_id = restores.app.test_client(), new_id()
    assert piece(browser, upload_id, 0, 10)[0] == 202
    assert piece(browser, upload_id, 0, 10) == (409, "upload.offset")
    assert piece(browser, upload_id, 10, SIZE)[0] == 201
    assert piece(browser, upload_id, SIZE, SIZE) == (409, "upload.offset")


def test_an_upload_that_is_not_what_its_digest_says_is_gone(restores: RestoreServer) -> None:
    browser, upload_id = restores.app.test_client(), new_id()
    where = f"/api/v1/uploads/{upload_id}"
    wrong = base64.b64encode(b"\0" * 32).decode()
    right = base64.b64encode(bytes.fromhex(SHA256)).decode()
    octets = BEARER | {"Content-Type": "application/octet-stream"}
    answer = browser.put(
        where, data=CONTENT, headers=octets | {"Repr-Digest": f"sha-256=:{wrong}:"}
    )
    assert (answer.status_code, answer.get_json()["code"]) == (422, "upload.digest_mismatch")
    assert browser.get(where, headers=BEARER).status_code == 404
    answer = browser.put(
        where, data=CONTENT, headers=octets | {"Repr-Digest": f"sha-256=:{right}:"}
    )
    assert answer.status_code == 201


@pytest.fixture(scope="module")
def url(restores: RestoreServer) -> Iterator[str]:
    with served(restores.app, restores.board, restores.context.settings.http) as address:
        yield address


def raw_request(url: str, head: str, body: bytes) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname and address.port
    sender = socket.create_connection((address.hostname, address.port), timeout=30)
    sender.sendall(f"{head}\r\nHost: x\r\n\r\n".encode() + body)
    return sender


def test_an_upload_that_broke_off_goes_on_where_it_did(
    restores: RestoreServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = new_id()
    head = (
        f"PUT /api/v1/uploads/{upload_id} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Length: {SIZE}\r\nContent-Type: application/octet-stream"
    )
    sender = raw_request(url, head, CONTENT[:1_500_000])
    sender.shutdown(socket.SHUT_WR)
    told = b"".join(iter(lambda: sender.recv(65_536), b""))
    sender.close()
    assert b"archive.truncated" in told
    where = f"{url}/api/v1/uploads/{upload_id}"
    have = int(httpx.get(where, headers=BEARER).headers["Upload-Offset"])
    assert have == 1_500_000
    headers = PIECE | {"Upload-Offset": str(have), "Upload-Length": str(SIZE)}
    done = httpx.patch(where, content=CONTENT[have:], headers=headers, timeout=30)
    assert done.json()["sha256"] == SHA256


def test_the_client_goes_on_with_what_is_there(
    restores: RestoreServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1_000_000)
    file = tmp_path / "backup.age"
    file.write_bytes(CONTENT)
    with ServiceConnection(url, TOKEN) as connection:
        client = RestoreClient(connection)
        first = client.upload(file)
        assert (first["sha256"], first["size_bytes"]) == (SHA256, SIZE)
        assert client.upload(file)["upload_id"] == first["upload_id"]
        file.write_bytes(CONTENT[::-1])
        os.utime(file, ns=(0, 0))
        other = client.upload(file)
    assert other["upload_id"] != first["upload_id"]
    assert other["sha256"] == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_body_that_nobody_wants_is_not_held_in_memory(restores: RestoreServer, url: str) -> None:
    head = "POST /api/v1/restores HTTP/1.1\r\nContent-Length: 50000000000\r\nContent-Type: application/json"
    process = psutil.Process()
    before = process.memory_info().rss
    sender = raw_request(url, head, b"")
    sent, chunk = 0, b"x" * (1 << 20)
    try:
        for _ in range(400):
            sent += sender.send(chunk)
    except OSError:
        pass
    assert process.memory_info().rss - before < 100_000_000
    sender.close()
    # It goes on to serve.
    assert httpx.get(f"{url}/api/v1/space", headers=BEARER).status_code == 200


def test_a_download_goes_on_where_it_broke_off(
    backups: BackupServer, path: str, tmp_path: Path
) -> None:
    backup_id = path.split("/")[4]
    with (
        served(backups.app, backups.board, backups.context.settings.http) as url,
        ServiceConnection(url, TOKEN) as connection,
    ):
        client = BackupClient(connection)
        for number, left in enumerate([b"", CONTENT[:1_000_000], CONTENT, CONTENT + b"more"]):
            target = tmp_path / f"{number}.age"
            (tmp_path / f"{number}.age.part").write_bytes(left)
            assert client.download(backup_id, target)["sha256"] == SHA256
            assert target.read_bytes() == CONTENT
        target = tmp_path / "altered.age"
        (tmp_path / "altered.age.part").write_bytes(b"\0" * 1000)
        with pytest.raises(ArchiveAltered):
            client.download(backup_id, target)
        assert not target.exists()
        assert client.download(backup_id, target)["size_bytes"] == SIZE
    assert not list(tmp_path.glob("*.part"))
    assert target.stat().st_mode & 0o777 == 0o600
