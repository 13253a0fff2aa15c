"""PostgreSQL's binary COPY format (PostgreSQL manual, "COPY", Binary Format).

A stream is a header (signature, flags, extension length), tuples, and a trailer. A tuple is its
field count as int16, then for every field its length as int32 (-1 is NULL) and its bytes, all
big-endian. An archive's part is one complete stream without flags and without extension.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from shared.errors import ArchiveMalformed

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = -1
# So often may a stream show another layout; behind that its tuples are read field by field.
LAYOUTS = 64

_Unpack = Callable[[bytes, int], tuple[Any, ...]]
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
    position, size = len(HEADER), len(stream)
    layout = TupleLayout()
    end_of = layout.end_of
    try:
        while True:
            end = end_of(stream, position)
            if end is None:
                if _int16(stream, position)[0] == NULL:
                    break
                lengths = _lengths(stream, position)
                layout.learn(lengths)
                end = position + 2 + sum(4 + max(length, 0) for length in lengths)
            if end > size:
                raise ArchiveMalformed("a part ends inside a tuple")
            yield stream[position:end]
            position = end
    except struct.error:
        raise ArchiveMalformed("a part ends inside a tuple") from None
    if position + len(TRAILER) != len(stream):
        raise ArchiveMalformed("something stands behind the end of a part")


def inner_pieces(pieces: Sequence[bytes]) -> Iterator[memoryview]:
    """Yield what stands between the header and the trailer of one COPY stream in ``pieces``.

    What that is is not looked at: whether a tuple is whole shows when it is loaded, with those of the
    parts behind it. Raises ArchiveMalformed where one of the two is missing.
    """
    views = [memoryview(piece) for piece in pieces]
    if len(views) > 1 and len(views[-1]) < len(TRAILER):
        views[-2:] = [memoryview(pieces[-2] + pieces[-1])]
    if not views or views[0][: len(HEADER)] != HEADER:
        raise ArchiveMalformed("a part does not begin like a binary COPY")
    views[0] = views[0][len(HEADER) :]
    if views[-1][-len(TRAILER) :] != TRAILER:
        raise ArchiveMalformed("a part does not end like a binary COPY")
    views[-1] = views[-1][: -len(TRAILER)]
    yield from views


def _lengths(stream: bytes, position: int) -> list[int]:
    """Return the length words of the tuple at ``position``. Raises struct.error at the end."""
    fields = _int16(stream, position)[0]
    if fields <= 0:
        raise ArchiveMalformed("a tuple of a part has no fields")
    end, lengths = position + 2, []
    for _ in range(fields):
        length = _int32(stream, end)[0]
        if length < NULL:
            raise ArchiveMalformed("a field of a part has a negative length")
        end += 4 + length if length > 0 else 4
        lengths.append(length)
    return lengths


class TupleLayout:
    """Which fields of the tuples seen so far had one length: those are read at one stroke.

    A tuple that differs anywhere is read field by field, and its layout learned. So the layout
    decides only how fast a tuple is read, never what it is.
    """

    def __init__(self) -> None:
        self._lengths: list[int | None] = []
        self._runs: list[tuple[_Unpack, tuple[int, ...], int]] = []
        self._to_learn = LAYOUTS

    def learn(self, lengths: Sequence[int]) -> None:
        """Take in the length words of a tuple that did not fit."""
        if not self._to_learn:
            return
        self._to_learn -= 1
        if len(lengths) == len(self._lengths):
            pairs = zip(self._lengths, lengths, strict=True)
            self._lengths = [known if known == length else None for known, length in pairs]
        else:
            self._lengths = list(lengths)
        self._runs = list(_runs(self._lengths))

    def end_of(self, stream: bytes, position: int) -> int | None:
        """Return where the tuple at ``position`` ends, or None when it has another layout."""
        if not self._runs:
            return None
        try:
            for unpack, expected, size in self._runs:
                found = unpack(stream, position)
                length = found[-1]
                if found[:-1] != expected or length < NULL:
                    return None
                position += size + length if length > 0 else size
        except struct.error:
            # Too few bytes for this layout; they may be enough for another.
            return None
        return position


def _runs(lengths: Sequence[int | None]) -> Iterator[tuple[_Unpack, tuple[int, ...], int]]:
    """Yield unpackers, each up to the next length word that is not known beforehand.

    With each come the words that must stand before that one, and the bytes that it spans. The
    last field's word counts as unknown.
    """
    pattern, expected = ">h", [len(lengths)]
    for length in lengths[:-1]:
        pattern += "i"
        if length is None:
            found = struct.Struct(pattern)
            yield found.unpack_from, tuple(expected), found.size
            pattern, expected = ">", []
        else:
            pattern += f"{max(length, 0)}x"
            expected.append(length)
    found = struct.Struct(pattern + "i")
    yield found.unpack_from, tuple(expected), found.size


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
