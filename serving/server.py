"""What cheroot does with a body that its answer left unread: passed over, and never held."""

from __future__ import annotations

from typing import Final

from cheroot.server import HTTPConnection, HTTPRequest

# Of a body that its answer left unread so much is passed over, that the sender hears the answer.
DRAIN_MAX_BYTES: Final = 64 * 1024 * 1024
_DRAIN_BYTES: Final = 64 * 1024


class _Request(HTTPRequest):
    """cheroot reads what is left of a body at once, however large, whoever sent it."""

    def send_headers(self) -> None:
        if self._left() > DRAIN_MAX_BYTES:
            self.close_connection = True
        while not self.close_connection and (left := self._left()):
            if not self.rfile.read(min(_DRAIN_BYTES, left)):
                self.close_connection = True
        super().send_headers()

    def _left(self) -> int:
        return int(getattr(self.rfile, "remaining", None) or 0)


class BoundedConnection(HTTPConnection):
    """A connection whose requests hold no body in memory that nobody reads."""

    RequestHandlerClass = _Request
