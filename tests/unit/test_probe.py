"""The image's health check: it asks the port of the settings file, and tells by its exit code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from serving import probe


class Answer(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    found = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join(5)


def configured(folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = folder / "settings.toml"
    config.write_text(f'[http]\nhost = "0.0.0.0"\nport = {port}\n')
    monkeypatch.setenv("SECRYN_CONFIG", str(config))


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_only_a_service_that_is_ready_is_healthy(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    configured(tmp_path, server.server_port, monkeypatch)
    assert probe.main() == code


def test_a_variable_moves_the_port_as_it_moves_the_services(
    tmp_path: Path, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, 9, monkeypatch)
    assert probe.main() == 1
    monkeypatch.setenv("SECRYN_HTTP__PORT", str(server.server_port))
    assert probe.main() == 0


def test_settings_that_are_not_there_are_unhealthy_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRYN_CONFIG", raising=False)
    assert probe.main() == 1
    monkeypatch.setenv("SECRYN_CONFIG", str(tmp_path / "nothing.toml"))
    assert probe.main() == 1
