"""Loopback ports for the parts of a stack: the remembered ones, or free ones when taken.

Between the choice of a port and the moment a part listens on it, another stack that starts at
the same time could choose it too. So a chosen port is also claimed, for as long as the
supervisor lives, by a name that the system forgets with the process (an abstract unix socket;
on a system without them the claim is left out).
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.embedded.place import Ports

HOST = "127.0.0.1"
_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Above those that well-known servers have.
_LOWEST: Final = 15_000
_TRIES: Final = 100


@dataclass
class PortClaims:
    """The ports that this process has claimed."""

    _claims: dict[int, socket.socket | None] = field(default_factory=dict)

    def choose(self, wanted: Ports, needed: frozenset[str], tell: Callable[[str], None]) -> Ports:
        """Claim a port for every name in ``needed``; say when it is not the wanted one."""
        chosen: dict[str, int] = {}
        for name, port in wanted.model_dump().items():
            if name not in needed or self._claim(port):
                chosen[name] = port
                continue
            chosen[name] = self._claim_free(set(wanted.model_dump().values()))
            tell(f"port {port} is taken: {name} listens on {chosen[name]} from now on")
        return Ports(**chosen)

    def _claim(self, port: int) -> bool:
        if port in self._claims or _listened_on(port):
            return False
        try:
            self._claims[port] = _claim_name(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def _claim_free(self, avoid: set[int]) -> int:
        while True:
            port = free_port()
            if port not in avoid and self._claim(port):
                return port

    def release(self) -> None:
        """Give every claim back."""
        for claim in self._claims.values():
            if claim is not None:
                claim.close()
        self._claims.clear()


def free_port() -> int:
    """Return a loopback port that nothing listens on at this moment.

    It is none of those that the system gives to the near end of a connection (Linux, ip(7),
    ip_local_port_range): a server that is started anew would find it taken, by anybody's connection.
    """
    end = _first_of_connections()
    for _ in range(_TRIES if end > _LOWEST else 0):
        port = _LOWEST + secrets.randbelow(end - _LOWEST)
        if not _listened_on(port):
            return port
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def _first_of_connections() -> int:
    """Return the first port that connections get; 0 on a system that does not say."""
    try:
        return int(_OF_CONNECTIONS.read_text(encoding="ascii").split()[0])
    except OSError:
        return 0


def _listened_on(port: int) -> bool:
    try:
        # With SO_REUSEADDR (create_server sets it) only a listener is in the way, not the
        # remains of closed connections.
        socket.create_server((HOST, port)).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return True
        raise
    return False


def _claim_name(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0secryn-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno == errno.EADDRINUSE:
            raise
        return None
    return claim
