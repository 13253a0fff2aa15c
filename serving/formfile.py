"""The file of a form, read as it comes in: never all of it in memory, nor a second copy on a disk.

For readers whose browser runs no script. The form is ``multipart/form-data`` (RFC 7578, RFC 2046);
its fields stand before its one file. (werkzeug's own decoder adds a byte to the file where a piece
of the connection ends within a boundary: tried with 3.1.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from flask import request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.http import parse_options_header

from shared.errors import MediaTypeUnsupported, UsageError

MULTIPART: Final = "multipart/form-data"
CHUNK_BYTES: Final = 1 << 20
# What stands before the file: the fields, and the headers of their parts.
_HEAD_BYTES: Final = 64 * 1024
_LINE, _HEADERS_END, _DISPOSITION = b"\r\n", b"\r\n\r\n", "content-disposition"


class Stream(Protocol):
    """What a form is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""


class FormFile:
    """The fields of a form, and its file as something to read. Raises UsageError when there is none.

    ``ended`` tells whether all of it came: a sender who is gone is no end.
    """

    def __init__(self, stream: Stream, boundary: bytes) -> None:
        self._stream = stream
        self._delimiter = _LINE + b"--" + boundary
        # As if a line stood before the first boundary, too.
        self._buffer = _LINE
        self._ready = b""
        self._head_bytes = 0
        self.ended = False
        self.fields: Mapping[str, str] = self._read_fields()

    @classmethod
    def sent(cls) -> FormFile:
        """Return the file of the present request. Raises MediaTypeUnsupported, UsageError."""
        boundary = request.mimetype_params.get("boundary", "")
        if request.mimetype != MULTIPART or not boundary:
            raise MediaTypeUnsupported(f"a form with a file is {MULTIPART}")
        return cls(request.stream, boundary.encode("utf-8"))

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes of the file; empty at its end, and when the sender is gone."""
        while not self._ready and not self.ended:
            found = self._buffer.find(self._delimiter)
            # What may be the beginning of a boundary waits for what comes behind it.
            sure = found if found >= 0 else len(self._buffer) - len(self._delimiter) + 1
            if found >= 0 or sure > 0:
                self._ready, self._buffer = self._buffer[:sure], self._buffer[sure:]
                self.ended = found >= 0
            elif not (data := self._come()):
                return b""
            else:
                self._buffer += data
        size = len(self._ready) if size < 0 else size
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        # What stands before the first boundary means nothing.
        self._until(self._delimiter)
        while self._exactly(len(_LINE)) == _LINE:
            disposition = _disposition_of(self._until(_HEADERS_END))
            self._give_back_line()
            if "filename" in disposition:
                return fields
            value = self._until(self._delimiter)
            fields[disposition.get("name", "")] = value.decode("utf-8", "replace")
        raise UsageError("the form holds no file")

    def _until(self, mark: bytes) -> bytes:
        """Return what stands before ``mark`` in the head of the form, and pass both."""
        while (at := self._buffer.find(mark)) < 0:
            self._more()
        found, self._buffer = self._buffer[:at], self._buffer[at + len(mark) :]
        return found

    def _give_back_line(self) -> None:
        """Of a part without content one line end is that of its headers and of the boundary."""
        while len(self._buffer) < len(self._delimiter) - len(_LINE):
            self._more()
        if self._buffer.startswith(self._delimiter[len(_LINE) :]):
            self._buffer = _LINE + self._buffer

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        data = self._come()
        self._head_bytes += len(data)
        if not data or self._head_bytes > _HEAD_BYTES + CHUNK_BYTES:
            raise UsageError("this is no form of ours, or it broke off before its file")
        self._buffer += data

    def _come(self) -> bytes:
        try:
            return self._stream.read(CHUNK_BYTES)
        except (ClientDisconnected, OSError):
            return b""


def _disposition_of(headers: bytes) -> dict[str, str]:
    """Return the parameters of a part's Content-Disposition."""
    for line in headers.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == _DISPOSITION:
            return parse_options_header(value.strip())[1]
    return {}
