"""The age header: grammar, limits and MAC (C2SP age specification, "Header")."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import constant_time, hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared.errors import AgeHeaderInvalid, ArchiveTruncated, NotAnAgeFile

INTRO = b"age-encryption.org/v1\n"
STANZA_MARK = b"-> "
MAC_MARK = b"---"
COLUMNS = 64
MAC_BYTES = 32
FILE_KEY_BYTES = 16
MAX_HEADER_BYTES = 64 * 1024
MAX_STANZAS = 32

_ARGUMENT = re.compile(rb"^[\x21-\x7e]+$")


class Source(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return up to ``size`` bytes; empty at the end."""


@dataclass(frozen=True)
class Stanza:
    """One recipient stanza: the wrapped file key in ``body``."""

    type: str
    arguments: tuple[str, ...]
    body: bytes

    def encode(self) -> bytes:
        """Return the stanza as it stands in a header."""
        lines = [STANZA_MARK + " ".join((self.type, *self.arguments)).encode("ascii")]
        text = b64encode(self.body)
        lines += [text[i : i + COLUMNS] for i in range(0, len(text), COLUMNS)]
        if len(text) % COLUMNS == 0:
            # The last line is always a short one, if need be an empty one.
            lines.append(b"")
        return b"\n".join(lines) + b"\n"


@dataclass(frozen=True)
class Header:
    """A parsed header; ``signed`` is what the MAC is over."""

    stanzas: tuple[Stanza, ...]
    mac: bytes
    signed: bytes

    def check(self, file_key: bytes) -> bool:
        """Tell whether the MAC is of ``file_key``."""
        return constant_time.bytes_eq(header_mac(file_key, self.signed), self.mac)


def b64encode(data: bytes) -> bytes:
    """Return standard base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def b64decode(text: bytes) -> bytes:
    """Read canonical unpadded base64. Raises AgeHeaderInvalid for anything else."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise AgeHeaderInvalid("the age header has malformed base64") from None
    if b"=" in text or b64encode(data) != text:
        raise AgeHeaderInvalid("the age header has base64 that is not canonical")
    return data


def header_mac(file_key: bytes, signed: bytes) -> bytes:
    """Return the MAC over a header up to and with ``---``."""
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"header").derive(file_key)
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(signed)
    return mac.finalize()


def encode_header(stanzas: Sequence[Stanza], file_key: bytes) -> bytes:
    """Return a whole header."""
    signed = INTRO + b"".join(stanza.encode() for stanza in stanzas) + MAC_MARK
    return signed + b" " + b64encode(header_mac(file_key, signed)) + b"\n"


class _Lines:
    """Read lines one byte at a time, so that nothing behind the header is consumed."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source = source
        self._left = max_bytes
        self.taken = bytearray()

    def next(self) -> bytes:
        """Return the next line without its line feed."""
        start = len(self.taken)
        while True:
            byte = self._source.read(1)
            if not byte:
                raise ArchiveTruncated("the file ends inside the age header")
            self._left -= 1
            if self._left < 0:
                raise AgeHeaderInvalid("the age header is longer than allowed")
            self.taken += byte
            if byte == b"\n":
                return bytes(self.taken[start:-1])


def read_header(
    source: Source, max_bytes: int = MAX_HEADER_BYTES, max_stanzas: int = MAX_STANZAS
) -> Header:
    """Read a header and leave ``source`` at the first byte behind it.

    Raises NotAnAgeFile, AgeHeaderInvalid, ArchiveTruncated.
    """
    intro = _read_up_to(source, len(INTRO))
    if intro != INTRO:
        if INTRO.startswith(intro) and intro:
            raise ArchiveTruncated("the file ends inside the age header")
        raise NotAnAgeFile("the file does not begin like an age file")
    lines = _Lines(source, max_bytes)
    stanzas: list[Stanza] = []
    line = lines.next()
    while not line.startswith(MAC_MARK):
        if len(stanzas) == max_stanzas:
            raise AgeHeaderInvalid("the age header has more stanzas than allowed")
        stanzas.append(_read_stanza(line, lines))
        line = lines.next()
    if not stanzas:
        raise AgeHeaderInvalid("the age header has no stanza")
    mac = b64decode(line[len(MAC_MARK) + 1 :])
    if line[: len(MAC_MARK) + 1] != MAC_MARK + b" " or len(mac) != MAC_BYTES:
        raise AgeHeaderInvalid("the age header has a malformed last line")
    signed = INTRO + bytes(lines.taken[: len(lines.taken) - len(line) - 1]) + MAC_MARK
    return Header(tuple(stanzas), mac, signed)


def _read_up_to(source: Source, size: int) -> bytes:
    taken = b""
    while len(taken) < size and (more := source.read(size - len(taken))):
        taken += more
    return taken


def _read_stanza(first: bytes, lines: _Lines) -> Stanza:
    if not first.startswith(STANZA_MARK):
        raise AgeHeaderInvalid("the age header has a line that begins no stanza")
    arguments = first[len(STANZA_MARK) :].split(b" ")
    if not all(_ARGUMENT.match(argument) for argument in arguments):
        raise AgeHeaderInvalid("a stanza of the age header has a malformed argument")
    body = b""
    while True:
        line = lines.next()
        if len(line) > COLUMNS:
            raise AgeHeaderInvalid("a stanza of the age header has a line that is too long")
        body += b64decode(line)
        if len(line) < COLUMNS:
            break
    kind, *rest = (argument.decode("ascii") for argument in arguments)
    return Stanza(kind, tuple(rest), body)
