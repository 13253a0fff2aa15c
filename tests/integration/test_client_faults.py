"""The client of a service that drops answers, is away for a moment, or never comes back."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared.archive.age import parse_recipient, seal
from shared.client import BackupClient, ServiceConnection, backups
from shared.errors import UnavailableError

KEY = "# a key file\n"


class Service(ThreadingHTTPServer):
    """Takes the key out at the first request, and gives it to that request and recipient alone.

    One that is ``dying`` gives no answer at all.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, taken_by: dict[str, str], dying: bool) -> None:
        self.taken_by, self.dying = taken_by, dying
        super().__init__(("127.0.0.1", port), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.taken_by.update(self.server.taken_by or request)
        if self.server.dying:
            # Committed, and the answer lost with the process.
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        assert request == self.server.taken_by
        sealed = seal(KEY.encode(), [parse_recipient(request["recipient"])])
        body = json.dumps({"sealed_key": sealed.hex()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def serving(port: int, taken_by: dict[str, str], *, dying: bool) -> Iterator[int]:
    service = Service(port, taken_by, dying)
    thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service.server_port
    finally:
        service.shutdown()
        service.server_close()
        thread.join(5)


def test_a_key_whose_answer_was_dropped_waits_for_the_service_to_come_back() -> None:
    taken_by: dict[str, str] = {}
    keys: list[str] = []
    with serving(0, taken_by, dying=True) as port:
        client = BackupClient(ServiceConnection(f"http://127.0.0.1:{port}", "token"))
        viewing = threading.Thread(target=lambda: keys.append(client.view_key("b")))
        viewing.start()
        while not taken_by:
            time.sleep(0.01)
    # Away for as long as a process needs to start again.
    time.sleep(1.5)
    with serving(port, taken_by, dying=False):
        viewing.join(20)
    assert keys == [KEY]


def test_a_service_that_stays_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backups, "VIEW_PATIENCE_S", 0.3, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = BackupClient(ServiceConnection(f"http://127.0.0.1:{port}", "token"))
    with pytest.raises(UnavailableError):
        client.view_key("b")
