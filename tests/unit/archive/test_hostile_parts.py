"""Parts that no writer of ours makes: bombs, windows, frames, COPY streams, keys."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
import zstandard

from shared.archive.copybinary import HEADER, TRAILER, encode_stream, encode_tuple
from shared.archive.limits import Limits
from shared.archive.members import part_name
from tests.unit.archive.building import (
    TABLE,
    Handmade,
    Row,
    compress,
    data_key_row,
    entry_of,
    handmade,
    project,
    timestamp,
)
from tests.unit.archive.refusing import MiB, assert_refused, code_of

RAW = encode_stream([encode_tuple(project("x"))])
MAGIC = b"\x28\xb5\x2f\xfd"


def refused(stored: bytes, code: str, memory_bytes: int = 48 * MiB) -> None:
    assert_refused(handmade([project("x")], stored).sealed(), code, memory_bytes=memory_bytes)


def frame(content: bytes, claimed: int, window_exponent: int) -> bytes:
    """Return a frame of one raw block, with the content size and the window that are wanted."""
    descriptor = bytes([0b1000_0000 if claimed < 2**32 else 0b1100_0000, window_exponent << 3])
    size = struct.pack("<I" if claimed < 2**32 else "<Q", claimed)
    return MAGIC + descriptor + size + struct.pack("<I", len(content) << 3 | 1)[:3] + content


def test_the_handmade_frame_is_a_frame() -> None:
    assert zstandard.decompress(frame(RAW, len(RAW), 10)) == RAW
    assert code_of(handmade([project("x")], frame(RAW, len(RAW), 10)).sealed()) is None


@pytest.mark.parametrize("claimed", [64 * MiB + 1, 1 << 40, 1 << 62])
def test_a_bomb_that_names_its_size_is_refused_before_it_is_decompressed(claimed: int) -> None:
    refused(frame(RAW, claimed, 10), "archive.limit_exceeded", 16 * MiB)


def test_a_real_bomb_is_refused_before_it_is_decompressed() -> None:
    sink = io.BytesIO()
    compressor = zstandard.ZstdCompressor(level=1)
    with compressor.stream_writer(sink, size=1024 * MiB, closefd=False) as writer:
        for _ in range(64):
            writer.write(bytes(16 * MiB))
    assert len(sink.getvalue()) < MiB
    refused(sink.getvalue(), "archive.limit_exceeded", 16 * MiB)


def test_a_bomb_that_lies_about_its_size_is_refused_at_that_size() -> None:
    bomb = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(bytes(32 * MiB))
    header = zstandard.frame_header_size(bomb)
    blocks = bomb[header:]
    lying = MAGIC + bytes([0b1000_0000, 9 << 3]) + struct.pack("<I", 1000) + blocks
    refused(lying, "archive.malformed", 16 * MiB)


def test_blocks_without_content_are_not_passed_over_for_long() -> None:
    empty, last = bytes(3), struct.pack("<I", len(RAW) << 3 | 1)[:3] + RAW
    header = frame(RAW, len(RAW), 10)[: -len(last)]
    assert code_of(handmade([project("x")], header + 63 * empty + last).sealed()) is None
    for many in (65, MiB):
        refused(header + many * empty + last, "archive.malformed", 16 * MiB)


def test_a_frame_that_does_not_name_its_size_is_refused() -> None:
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(RAW)
    refused(unsized, "archive.malformed")


@pytest.mark.parametrize(
    ("exponent", "code"),
    [(13, None), (14, "archive.limit_exceeded"), (21, "archive.limit_exceeded")],
)
def test_a_window_over_the_limit_is_refused(exponent: int, code: str | None) -> None:
    stored = frame(RAW, len(RAW), exponent)
    if code is None:
        assert code_of(handmade([project("x")], stored).sealed()) is None
    else:
        refused(stored, code, 16 * MiB)


def test_a_frame_that_needs_a_dictionary_is_refused() -> None:
    dictionary = zstandard.train_dictionary(1024, [b"%d some sample" % n * 9 for n in range(999)])
    refused(zstandard.ZstdCompressor(dict_data=dictionary).compress(RAW), "archive.malformed")


def with_wrong_checksum() -> bytes:
    stored = bytearray(compress(RAW))
    stored[-1] ^= 1
    return bytes(stored)


FRAMES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no frame": lambda: b"a part without a frame",
    "plain COPY data": lambda: RAW,
    "gzip": lambda: b"\x1f\x8b\x08" + bytes(40),
    "two frames": lambda: compress(RAW) + compress(RAW),
    "two halves": lambda: compress(RAW[:40]) + compress(RAW[40:]),
    "a byte behind": lambda: compress(RAW) + b"\0",
    "a skippable frame": lambda: b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"abcd",
    "a skippable frame in front": lambda: b"\x50\x2a\x4d\x18\4\0\0\0abcd" + compress(RAW),
    "a giant skippable frame": lambda: b"\x50\x2a\x4d\x18\xff\xff\xff\xff" + bytes(99),
    "a cut frame": lambda: compress(RAW)[:-1],
    "a header alone": lambda: compress(RAW)[:6],
    "a wrong checksum": with_wrong_checksum,
    "an empty content": lambda: compress(b""),
    "more than it names": lambda: frame(RAW, len(RAW) - 1, 10),
    "less than it names": lambda: frame(RAW, len(RAW) + 1, 10),
    "an empty content, then more": lambda: frame(b"", 0, 10) + RAW,
}


@pytest.mark.parametrize("case", list(FRAMES))
def test_anything_but_one_whole_frame_is_refused(case: str) -> None:
    refused(FRAMES[case](), "archive.malformed")


TUPLE = encode_tuple(project("x"))
STREAMS = {
    "nothing of a COPY": b"x",
    "the header alone": HEADER,
    "no trailer": HEADER + TUPLE,
    "half a trailer": HEADER + TUPLE + b"\xff",
    "a byte behind the trailer": RAW + b"\0",
    "two streams": RAW + RAW,
    "flags": HEADER[:11] + b"\0\1\0\0" + HEADER[15:] + TUPLE + TRAILER,
    "an extension": HEADER[:15] + b"\0\0\0\4abcd" + TUPLE + TRAILER,
    "another signature": b"PGCOPY\n\xff\n\n\0" + bytes(8) + TUPLE + TRAILER,
    "text": b"1\tx\n\\.\n",
    "a tuple without fields": HEADER + b"\0\0" + TRAILER,
    "a negative field count": HEADER + b"\xff\xfe" + TRAILER,
    "more fields than bytes": HEADER + b"\x7f\xff" + TRAILER,
    "a negative length": HEADER + b"\0\1\xff\xff\xff\xfe" + TRAILER,
    "a field of two gigabytes": HEADER + b"\0\1\x7f\xff\xff\xff" + TRAILER,
    "a field over the end by one": HEADER + b"\0\1\0\0\0\3" + TRAILER,
    "a cut length": HEADER + b"\0\1\0\0",
}


@pytest.mark.parametrize("case", list(STREAMS))
def test_anything_but_one_complete_copy_stream_is_refused(case: str) -> None:
    refused(compress(STREAMS[case]), "archive.malformed")


def test_a_stream_of_the_smallest_rows_is_walked_in_flat_memory() -> None:
    rows = b"\0\1\xff\xff\xff\xff" * 50_000
    refused(compress(HEADER + rows + TRAILER), "archive.manifest_mismatch", 16 * MiB)


def test_parts_that_grow_more_than_ciphertext_can_are_refused_before_the_time_is_spent() -> None:
    bomb = compress(encode_stream([encode_tuple(project(bytes(30_000)))]))
    numbered = [(part_name(TABLE, number), bomb) for number in range(40)]
    data = Handmade(numbered, {TABLE: entry_of(TABLE, [project(bytes(30_000))] * 40, 40)}).sealed()
    assert code_of(data) is None
    grown = 40 * (30_000 - len(bomb))
    assert_refused(
        data, "archive.limit_exceeded", limits=Limits(expansion=1, expansion_spare_bytes=grown)
    )
    allowed = Limits(expansion=1, expansion_spare_bytes=grown + 40 * 200)
    assert code_of(data, limits=allowed) is None


@pytest.mark.parametrize("rows", [0, 2, 3])
def test_a_part_with_other_rows_than_the_manifest_says_is_refused(rows: int) -> None:
    raw = encode_stream([encode_tuple(project("x"))] * rows)
    refused(compress(raw), "archive.manifest_mismatch")


def test_a_part_with_another_row_than_the_manifest_says_is_refused() -> None:
    raw = encode_stream([encode_tuple(project("y"))])
    refused(compress(raw), "archive.manifest_mismatch")


def keyring(row: Row) -> bytes:
    stored = compress(encode_stream([encode_tuple(row)]))
    tables = {"keyring": entry_of("keyring", [data_key_row()])}
    return Handmade([(part_name("keyring", 0), stored)], tables).sealed()


def test_a_data_key_that_does_not_fit_its_check_value_is_refused() -> None:
    sound = data_key_row()
    assert code_of(keyring(sound)) is None
    for row in (
        data_key_row(b"\1" * 32, check_value=bytes(16)),
        data_key_row(b"short"),
        data_key_row(b""),
        data_key_row(bytes(33)),
        [*sound[:3], None, *sound[4:]],
        [*sound[:4], None, *sound[5:]],
    ):
        assert_refused(keyring(row), "archive.manifest_mismatch")


@pytest.mark.parametrize("fields", [0, 1, 4, 5, 7])
def test_a_row_of_the_keyring_with_other_fields_is_refused(fields: int) -> None:
    row = [*data_key_row(), timestamp()][:fields]
    assert_refused(keyring(row), "archive.malformed")


def test_a_part_of_a_table_that_the_manifest_does_not_name_is_refused() -> None:
    made = handmade([project("x")])
    made.parts.append((part_name("vaults", 0), compress(RAW)))
    assert_refused(made.sealed(), "archive.manifest_mismatch")
    assert made.parts[0][0] == part_name(TABLE, 0)
