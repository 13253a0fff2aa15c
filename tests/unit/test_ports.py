"""Ports: one that nobody has, that no connection takes meanwhile, and words where it is taken."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from deploy.embedded import ports
from deploy.embedded.ports import HOST, free_port
from deploy.embedded.process import free_ports
from serving.runtime import ServiceRuntime
from shared.errors import UnknownSetting
from shared.settings import HttpSettings

OF_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in which the system says which ports connections get."""
    file = tmp_path / "ip_local_port_range"
    monkeypatch.setattr(ports, "_OF_CONNECTIONS", file)
    return file


@pytest.mark.skipif(not OF_CONNECTIONS.exists(), reason="this system does not say")
def test_a_free_port_is_none_that_connections_get() -> None:
    first = int(OF_CONNECTIONS.read_text().split()[0])
    assert all(1023 < port < first for port in free_ports(50))


def test_one_that_somebody_listens_on_is_passed_over(
    said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two ports one beside the other, and one of them is taken.
    begin = next(
        n for n in range(20_000, 32_000, 2) if not any(map(ports._listened_on, (n, n + 1)))
    )
    monkeypatch.setattr(ports, "_LOWEST", begin)
    said.write_text(f"{begin + 2}\t60999\n")
    for taken, left in ((begin, begin + 1), (begin + 1, begin)):
        with socket.create_server((HOST, taken)):
            assert {free_port() for _ in range(20)} == {left}


@pytest.mark.parametrize("range_said", ["1024 65000", "15000 65000", None])
def test_where_none_is_left_for_servers_the_system_chooses(
    said: Path, range_said: str | None
) -> None:
    if range_said is not None:
        said.write_text(range_said)
    assert free_port() >= 1024


def test_a_service_whose_port_is_taken_says_which_and_what_to_do(own_signals: None) -> None:
    with socket.create_server((HOST, 0)) as other:
        http = HttpSettings(port=other.getsockname()[1], token_file=Path("/nowhere"))
        with pytest.raises(UnknownSetting, match=f"{HOST}:{http.port}: the port is taken") as told:
            ServiceRuntime("test").run(lambda _environ, _start: [], http)
    assert "http.port" in told.value.advice
