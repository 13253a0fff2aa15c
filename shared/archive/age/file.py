"""A whole age file: encrypt into a sink, decrypt from a source, in bounded memory."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

from typing_extensions import Buffer

from shared.archive.age.header import (
    FILE_KEY_BYTES,
    MAX_HEADER_BYTES,
    MAX_STANZAS,
    Source,
    Stanza,
    encode_header,
    read_header,
)
from shared.archive.age.keytypes import Identity, Recipient, check_mixing
from shared.archive.age.scrypt import STANZA as SCRYPT
from shared.archive.age.stream import Sink, StreamReader, StreamWriter
from shared.errors import AgeHeaderInvalid, ArchiveLimitExceeded, UsageError, WrongKeyOrHeader


class EncryptWriter:
    """Write an age file into ``sink``; it is whole when ``close`` returned.

    ``close`` does not close the sink. Raises UsageError for recipients that may not be mixed.
    """

    def __init__(self, sink: Sink, recipients: Sequence[Recipient]) -> None:
        check_mixing(recipients)
        file_key = os.urandom(FILE_KEY_BYTES)
        stanzas = [recipient.wrap(file_key) for recipient in recipients]
        sink.write(encode_header(stanzas, file_key))
        self._stream = StreamWriter(sink, file_key)
        self._file_key = file_key

    def proof_identity(self) -> Identity:
        """Return an identity that opens this one file, to read it back while in memory.

        With own recipients nobody here has a key; what was written is proven all the same.
        """
        return _FileKeyIdentity(self._file_key)

    def write(self, data: Buffer) -> int:
        """Encrypt ``data``; return its length in bytes."""
        return self._stream.write(data)

    def close(self) -> None:
        """Write the final chunk."""
        self._stream.finish()


class _FileKeyIdentity:
    def __init__(self, file_key: bytes) -> None:
        self._file_key = file_key

    def unwrap(self, stanzas: Sequence[Stanza]) -> bytes | None:
        return self._file_key

    def to_recipient(self) -> Recipient:
        raise UsageError("the key of one file has no recipient")

    def encode(self) -> str:
        raise UsageError("the key of one file is never written")


class DecryptReader(io.RawIOBase):
    """Read the plaintext of an age file; only authenticated bytes are returned.

    The header is read and checked at once.

    Raises NotAnAgeFile, AgeHeaderInvalid, WrongKeyOrHeader, ArchiveDamaged.
    """

    def __init__(
        self,
        source: Source,
        identities: Sequence[Identity],
        *,
        allow_scrypt: bool = False,
        max_header_bytes: int = MAX_HEADER_BYTES,
        max_stanzas: int = MAX_STANZAS,
    ) -> None:
        super().__init__()
        header = read_header(source, max_header_bytes, max_stanzas)
        if any(stanza.type == SCRYPT for stanza in header.stanzas):
            if len(header.stanzas) > 1:
                raise AgeHeaderInvalid("a scrypt stanza does not stand alone")
            if not allow_scrypt:
                raise AgeHeaderInvalid("the file is encrypted to a passphrase, not to a key")
        found = (identity.unwrap(header.stanzas) for identity in identities)
        file_key = next((key for key in found if key is not None), None)
        if file_key is None:
            raise WrongKeyOrHeader("no recipient of the file matches the key")
        if not header.check(file_key):
            raise WrongKeyOrHeader("the age header was altered")
        self._stream = StreamReader(source, file_key)
        self._chunk = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer`` as far as the present chunk goes; 0 at the authenticated end."""
        target = memoryview(buffer).cast("B")
        chunk = self._present()
        taken = min(len(chunk), len(target))
        target[:taken] = chunk[:taken]
        self._chunk = chunk[taken:]
        return taken

    def read(self, size: int | None = -1, /) -> bytes:
        """Return exactly ``size`` bytes, fewer only at the end; all of them without a size."""
        parts: list[memoryview] = []
        left = -1 if size is None else size
        while left:
            chunk = self._present()
            if not chunk:
                break
            part = chunk if left < 0 else chunk[:left]
            self._chunk = chunk[len(part) :]
            left = left if left < 0 else left - len(part)
            parts.append(part)
        return b"".join(parts)

    def _present(self) -> memoryview:
        if not self._chunk and not self._ended:
            self._chunk = memoryview(self._stream.next_chunk())
            self._ended = not self._chunk
        return self._chunk


def seal(plaintext: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Return a small message as an age file."""
    sink = io.BytesIO()
    writer = EncryptWriter(sink, recipients)
    writer.write(plaintext)
    writer.close()
    return sink.getvalue()


def open_sealed(data: bytes, identities: Sequence[Identity], max_bytes: int) -> bytes:
    """Open a small message. Raises as DecryptReader does, and ArchiveLimitExceeded."""
    reader = DecryptReader(io.BytesIO(data), identities)
    plaintext = reader.read(max_bytes)
    if reader.read(1):
        raise ArchiveLimitExceeded(f"the message is longer than {max_bytes} bytes")
    return plaintext
