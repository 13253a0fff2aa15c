"""PostgreSQL's binary COPY format (PostgreSQL manual, "COPY", Binary Format).

A stream is a header (signature, flags, extension length), tuples, and a trailer. A tuple is its
field count as int16, then for every field its length as int32 (-1 is NULL) and its bytes, all
big-endian. An archive's part is one complete stream without flags and without extension.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from shared.errors import ArchiveMalformed

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = -1

_int16 = struct.Struct(">h").unpack_from
_int32 = struct.Struct(">i").unpack_from
_pack_int16 = struct.Struct(">h").pack
_pack_int32 = struct.Struct(">i").pack


def split_tuples(stream: bytes) -> Iterator[bytes]:
    """Yield the tuples of one complete COPY stream.

    Raises ArchiveMalformed when it is not complete, or when something stands behind its end.
    """
    if not stream.startswith(HEADER):
        raise ArchiveMalformed("a part does not begin like a binary COPY")
    position = len(HEADER)
    try:
        while (fields := _int16(stream, position)[0]) != NULL:
            if fields <= 0:
                raise ArchiveMalformed("a tuple of a part has no fields")
            end = position + 2
            for _ in range(fields):
                length = _int32(stream, end)[0]
                if length < NULL:
                    raise ArchiveMalformed("a field of a part has a negative length")
                end += 4 + length if length > 0 else 4
            if end > len(stream):
                raise ArchiveMalformed("a part ends inside a tuple")
            yield stream[position:end]
            position = end
    except struct.error:
        raise ArchiveMalformed("a part ends inside a tuple") from None
    if position + len(TRAILER) != len(stream):
        raise ArchiveMalformed("something stands behind the end of a part")


def split_fields(tuple_bytes: bytes) -> list[bytes | None]:
    """Return the fields of one tuple, None for NULL."""
    fields: list[bytes | None] = []
    position = 2
    for _ in range(_int16(tuple_bytes, 0)[0]):
        length = _int32(tuple_bytes, position)[0]
        position += 4
        fields.append(None if length == NULL else tuple_bytes[position : position + length])
        position += max(length, 0)
    return fields


def encode_tuple(fields: Sequence[bytes | None]) -> bytes:
    """Return the tuple of ``fields``, each already in PostgreSQL's binary form."""
    parts = [_pack_int16(len(fields))]
    for field in fields:
        parts.append(_pack_int32(NULL if field is None else len(field)))
        parts.append(field or b"")
    return b"".join(parts)


def encode_stream(tuples: Iterable[bytes]) -> bytes:
    """Return the complete stream of ``tuples``."""
    return HEADER + b"".join(tuples) + TRAILER
