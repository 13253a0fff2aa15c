"""The age payload: STREAM over 64 KiB chunks (C2SP age specification, "Payload")."""

from __future__ import annotations

import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from typing_extensions import Buffer

from shared.archive.age.header import Source
from shared.errors import ArchiveDamaged, ArchiveTruncated

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
NONCE_BYTES = 16
_COUNTER_BYTES = 11


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: Buffer, /) -> object:
        """Take ``data`` whole."""


def payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    """Return the cipher of a payload that begins with ``nonce``."""
    return ChaCha20Poly1305(HKDF(hashes.SHA256(), 32, salt=nonce, info=b"payload").derive(file_key))


def chunk_nonce(counter: int, *, last: bool) -> bytes:
    """Return the nonce of a chunk: an 11-byte big-endian counter and the final-chunk mark."""
    return counter.to_bytes(_COUNTER_BYTES, "big") + (b"\x01" if last else b"\x00")


class StreamWriter:
    """Encrypt into ``sink``; at most one chunk is held back."""

    def __init__(self, sink: Sink, file_key: bytes) -> None:
        nonce = os.urandom(NONCE_BYTES)
        self._sink = sink
        self._cipher = payload_cipher(file_key, nonce)
        self._counter = 0
        self._pending = bytearray()
        sink.write(nonce)

    def write(self, data: Buffer) -> int:
        """Take ``data`` whole; return its length in bytes."""
        view = memoryview(data).cast("B")
        start = 0
        if self._pending:
            start = min(CHUNK_BYTES - len(self._pending), len(view))
            self._pending += view[:start]
            if len(view) > start and len(self._pending) == CHUNK_BYTES:
                self._seal(self._pending, last=False)
                self._pending = bytearray()
        # A full chunk waits until more follows: only then is it known not to be the last.
        while len(view) - start > CHUNK_BYTES:
            self._seal(view[start : start + CHUNK_BYTES], last=False)
            start += CHUNK_BYTES
        if start < len(view):
            self._pending += view[start:]
        return len(view)

    def finish(self) -> None:
        """Write the last chunk."""
        self._seal(self._pending, last=True)
        self._pending = bytearray()

    def _seal(self, chunk: bytearray | memoryview, *, last: bool) -> None:
        nonce = chunk_nonce(self._counter, last=last)
        self._sink.write(self._cipher.encrypt(nonce, chunk, None))
        self._counter += 1


class StreamReader:
    """Decrypt from ``source``; only authenticated bytes are ever returned."""

    def __init__(self, source: Source, file_key: bytes) -> None:
        self._source = source
        nonce = self._read_exactly_up_to(NONCE_BYTES)
        if len(nonce) < NONCE_BYTES:
            raise ArchiveTruncated("the file ends before its content begins")
        self._cipher = payload_cipher(file_key, nonce)
        self._counter = 0
        self._sealed = self._read_exactly_up_to(SEALED_CHUNK_BYTES)
        self._done = False
        self._fault: ArchiveDamaged | None = None

    def next_chunk(self) -> bytes:
        """Return the next chunk, or nothing behind the last one. Raises ArchiveDamaged."""
        if self._fault is not None:
            raise self._fault
        if self._done:
            return b""
        following = b""
        if len(self._sealed) == SEALED_CHUNK_BYTES:
            following = self._read_exactly_up_to(SEALED_CHUNK_BYTES)
        last = not following
        chunk = self._open(last=last)
        if chunk is None:
            # An authentic chunk with the other mark is returned before the fault is told: the
            # file was cut off behind it, or something was added behind it.
            chunk = self._open(last=not last)
            if chunk is None:
                raise ArchiveDamaged("the content is cut off or altered")
            self._fault = (
                ArchiveTruncated("the content is cut off behind a whole chunk")
                if last
                else ArchiveDamaged("something stands behind the end of the content")
            )
        if last and not chunk and self._counter:
            raise ArchiveDamaged("the last chunk is empty")
        self._counter += 1
        self._sealed, self._done = following, last
        return chunk

    def _open(self, *, last: bool) -> bytes | None:
        try:
            return self._cipher.decrypt(chunk_nonce(self._counter, last=last), self._sealed, None)
        except InvalidTag:
            return None

    def _read_exactly_up_to(self, size: int) -> bytes:
        first = self._source.read(size) or b""
        if len(first) == size or not first:
            return first
        parts, length = [first], len(first)
        while length < size and (more := self._source.read(size - length)):
            parts.append(more)
            length += len(more)
        return b"".join(parts)
