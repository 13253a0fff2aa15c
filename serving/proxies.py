"""Believe the forwarding headers of the proxies that are trusted, and of nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from werkzeug.wrappers import Response

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

_FOR: Final = "HTTP_X_FORWARDED_FOR"
_PROTO: Final = "HTTP_X_FORWARDED_PROTO"
# Others that some program might believe; none here does.
_NEVER: Final = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP")


class TrustedProxies:
    """A WSGI application behind proxies: ``REMOTE_ADDR`` is the last address that is none of them.

    A header that anybody else sends is taken away: nothing behind this can believe it.
    """

    def __init__(self, app: Wsgi, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = trusted

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        forwarded_for, proto = environ.pop(_FOR, ""), environ.pop(_PROTO, "")
        for name in _NEVER:
            environ.pop(name, None)
        if self._is_trusted(environ.get("REMOTE_ADDR", "")):
            found = self._client(forwarded_for)
            if found is None:
                # A proxy of ours that sends what is no address: nobody knows who this is.
                return Response("bad X-Forwarded-For\n", 400)(environ, start_response)
            environ["REMOTE_ADDR"] = found or environ["REMOTE_ADDR"]
            scheme = proto.rpartition(",")[2].strip().lower()
            if scheme in {"http", "https"}:
                environ["wsgi.url_scheme"] = scheme
        return self._app(environ, start_response)

    def _client(self, forwarded_for: str) -> str | None:
        """Return the nearest address that is no proxy, "" without any, None for what is none."""
        found = ""
        for text in reversed([part.strip() for part in forwarded_for.split(",") if part.strip()]):
            try:
                found = str(ipaddress.ip_address(text))
            except ValueError:
                return None
            if not self._is_trusted(found):
                break
        return found

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._trusted)
