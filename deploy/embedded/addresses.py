"""Where each service of a place is found from this machine, and whom to believe there.

Services are reached at the loopback whatever their certificate is made out to. The name that it is
checked for is the host of the address by which a browser finds the pages (``web.backup_url`` or
``web.restore_url`` of the settings), where one is named, and the loopback's address otherwise.
"""

from __future__ import annotations

import functools
import http.client
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from deploy.embedded.folder import StateFolder
from deploy.embedded.place import Place
from shared.errors import UnknownSetting

HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Tls:
    """How a service that speaks TLS is known: who signed for it, and under which name.

    Without ``ca_file`` it is whom the system believes, or the certificate itself.
    """

    cert_file: Path
    ca_file: Path | None = None
    server_name: str | None = None

    def trusted(self) -> ssl.SSLContext:
        """Return whom to believe. Raises UnknownSetting when the file of that is none."""
        file = self.ca_file or self.cert_file
        try:
            return _trusted(file, file.stat().st_mtime_ns, self.ca_file is None)
        except (OSError, ssl.SSLError) as error:
            named = "http.tls_cert_file" if self.ca_file is None else "http.tls_ca_file"
            raise UnknownSetting(
                f"{named}: {file} holds no certificate that can be read ({type(error).__name__})"
            ) from None


@functools.lru_cache(maxsize=8)
def _trusted(file: Path, _changed_ns: int, besides_the_system: bool) -> ssl.SSLContext:
    # The supervisor asks every two seconds: the system's certificates are not read each time.
    if not besides_the_system:
        return ssl.create_default_context(cafile=file)
    context = ssl.create_default_context()
    context.load_verify_locations(file)
    return context


@dataclass(frozen=True)
class Address:
    """A service's port at the loopback; ``tls`` is None where it speaks plain HTTP."""

    port: int
    tls: Tls | None = None

    @property
    def url(self) -> str:
        """Return it as a URL."""
        return f"{'http' if self.tls is None else 'https'}://{HOST}:{self.port}"

    def trusted(self) -> ssl.SSLContext | None:
        """Return whom to believe there, None without TLS. Raises UnknownSetting."""
        return None if self.tls is None else self.tls.trusted()

    @property
    def server_name(self) -> str | None:
        """Return the name that its certificate is checked for, None for that of the URL."""
        return None if self.tls is None else self.tls.server_name

    def connect(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return an open connection. Raises OSError, UnknownSetting."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        context = self.trusted()
        if context is not None:
            plain = socket.create_connection((HOST, self.port), timeout_s)
            try:
                name = self.server_name or HOST
                connection.sock = context.wrap_socket(plain, server_hostname=name)
            except OSError:
                plain.close()
                raise
        return connection


def address_of(state: StateFolder, place: Place, name: str) -> Address:
    """Return where the service ``name`` (``backup``, ``restore`` or ``projector``) is."""
    sections = next((found for who, found in place.settings.items() if who == name), {})
    http_section = sections.get("http", {})
    cert_file = http_section.get("tls_cert_file")
    port: int = getattr(place.ports, name)
    if not isinstance(cert_file, str):
        return Address(port)
    ca_file = http_section.get("tls_ca_file")
    return Address(
        port,
        Tls(
            state.root / cert_file,
            state.root / ca_file if isinstance(ca_file, str) else None,
            _server_name(place, name),
        ),
    )


def _server_name(place: Place, name: str) -> str | None:
    # The projector has no pages: one certificate stands for the place.
    if name == "restore":
        url = place.settings.get("restore", {}).get("web", {}).get("restore_url")
    else:
        url = place.settings.get("backup", {}).get("web", {}).get("backup_url")
    return urlsplit(url).hostname if isinstance(url, str) else None
