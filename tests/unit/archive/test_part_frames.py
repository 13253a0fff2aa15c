"""A part is exactly one frame, of whatever size: nothing is missing, and nothing stands behind it."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable

import pytest
import zstandard

from shared.archive.limits import DEFAULT_LIMITS
from shared.archive.members import Member, TarReader, part_name
from shared.archive.parts import PIECE_BYTES, PartReader
from shared.errors import ArchiveMalformed

SIZES = [1, 21, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
CONTENTS: dict[str, Callable[[int], bytes]] = {
    "noise": lambda size: random.Random(size).randbytes(size),
    "one byte, over and over": bytes,
    "text": lambda size: (b"a backup is one file and one key. " * (1 + size // 34))[:size],
}


def compress(content: bytes, checksum: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=checksum).compress(content)


def read(stored: bytes) -> tuple[bytes, bytes]:
    """Return the stream of a member that holds ``stored``, and its SHA-256."""
    member = Member(part_name("projects", 0), len(stored))
    tar = TarReader(io.BytesIO(stored + bytes(member.padding)), DEFAULT_LIMITS)
    pieces, sha256 = PartReader(tar, DEFAULT_LIMITS).read(member)
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces), sha256


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "none"])
@pytest.mark.parametrize("kind", list(CONTENTS))
@pytest.mark.parametrize("size", SIZES)
def test_a_whole_frame_comes_out_as_it_went_in(size: int, kind: str, checksum: bool) -> None:
    content = CONTENTS[kind](size)
    stored = compress(content, checksum)
    assert read(stored) == (content, hashlib.sha256(stored).digest())


DEFECTS: dict[str, Callable[[bytes], bytes]] = {
    "a byte is missing": lambda stored: stored[:-1],
    "four bytes are missing": lambda stored: stored[:-4],
    "a byte behind": lambda stored: stored + b"\0",
    "four bytes behind": lambda stored: stored + bytes(4),
    "the frame twice": lambda stored: stored + stored,
    "an empty frame behind": lambda stored: stored + compress(b""),
    "a skippable frame behind": lambda stored: stored + b"\x50\x2a\x4d\x18\1\0\0\0x",
}


@pytest.mark.parametrize("checksum", [True, False], ids=["checksum", "none"])
@pytest.mark.parametrize("kind", list(CONTENTS))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("defect", list(DEFECTS))
def test_anything_else_is_refused(defect: str, size: int, kind: str, checksum: bool) -> None:
    stored = compress(CONTENTS[kind](size), checksum)
    with pytest.raises(ArchiveMalformed):
        read(DEFECTS[defect](stored))


@pytest.mark.parametrize("kind", list(CONTENTS))
@pytest.mark.parametrize("size", SIZES)
def test_the_checksum_is_checked_whatever_the_size(size: int, kind: str) -> None:
    stored = compress(CONTENTS[kind](size))
    with pytest.raises(ArchiveMalformed):
        read(stored[:-1] + bytes([stored[-1] ^ 1]))


def test_a_frame_that_holds_more_than_it_names_is_refused() -> None:
    many = compress(bytes(8 * PIECE_BYTES))
    few = compress(bytes(PIECE_BYTES))
    header, lying = zstandard.frame_header_size(many), zstandard.frame_header_size(few)
    with pytest.raises(ArchiveMalformed):
        read(few[:lying] + many[header:])
