"""ASCII armor (C2SP age specification, "ASCII armor"; RFC 7468 in its strict form)."""

from __future__ import annotations

import base64
import binascii
import io

from typing_extensions import Buffer

from shared.archive.age.header import Source
from shared.archive.age.stream import Sink
from shared.errors import AgeHeaderInvalid, NotAnAgeFile

BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
END = b"-----END AGE ENCRYPTED FILE-----"
COLUMNS = 64
_LINE_BYTES = COLUMNS // 4 * 3
_MAX_WHITESPACE = 1024
_WHITESPACE = b" \t\r\n"


class ArmorWriter:
    """Write bytes as armored text."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pending = b""
        sink.write(BEGIN + b"\n")

    def write(self, data: Buffer, /) -> int:
        """Take ``data`` whole."""
        added = bytes(data)
        pending = self._pending + added
        whole = len(pending) // _LINE_BYTES * _LINE_BYTES
        lines = [
            base64.b64encode(pending[i : i + _LINE_BYTES]) + b"\n"
            for i in range(0, whole, _LINE_BYTES)
        ]
        self._sink.write(b"".join(lines))
        self._pending = pending[whole:]
        return len(added)

    def close(self) -> None:
        """Write the last lines."""
        if self._pending:
            self._sink.write(base64.b64encode(self._pending) + b"\n")
        self._sink.write(END + b"\n")


class ArmorReader:
    """Read armored text as bytes. Raises AgeHeaderInvalid for anything that is not strict."""

    def __init__(self, source: Source) -> None:
        self._source = io.BufferedReader(_Raw(source), 1 << 16)
        self._data = b""
        self._ended = False
        self._short = False
        self._begin()

    def _begin(self) -> None:
        skipped = 0
        while self._source.peek(1)[:1] in (b" ", b"\t", b"\r", b"\n") and self._source.peek(1):
            self._source.read(1)
            skipped += 1
            if skipped > _MAX_WHITESPACE:
                raise NotAnAgeFile("the armor begins with too much white space")
        if self._line() != BEGIN:
            raise NotAnAgeFile("the armor does not begin as it must")

    def _line(self) -> bytes:
        line = self._source.readline(256)
        if not line.endswith(b"\n") and line != END:
            raise AgeHeaderInvalid("a line of the armor is cut off or too long")
        return line.removesuffix(b"\n").removesuffix(b"\r")

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""
        while not self._ended and (size < 0 or len(self._data) < size):
            self._data += self._decoded_line()
        if size < 0:
            size = len(self._data)
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _decoded_line(self) -> bytes:
        line = self._line()
        if line == END:
            self._finish()
            return b""
        if not line or len(line) > COLUMNS or self._short:
            raise AgeHeaderInvalid("a line of the armor has the wrong length")
        self._short = len(line) < COLUMNS
        try:
            data = base64.b64decode(line, validate=True)
        except binascii.Error:
            raise AgeHeaderInvalid("the armor has malformed base64") from None
        if base64.b64encode(data) != line:
            raise AgeHeaderInvalid("the armor has base64 that is not canonical")
        self._short = self._short or line.endswith(b"=")
        return data

    def _finish(self) -> None:
        self._ended = True
        rest = self._source.read(_MAX_WHITESPACE + 1)
        if len(rest) > _MAX_WHITESPACE or rest.strip(_WHITESPACE):
            raise AgeHeaderInvalid("something stands behind the armor")


class _Raw(io.RawIOBase):
    def __init__(self, source: Source) -> None:
        super().__init__()
        self._inner = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._inner.read(len(buffer)) or b""
        buffer[: len(data)] = data
        return len(data)
