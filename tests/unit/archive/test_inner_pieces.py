"""A COPY stream in pieces, without what stands at its two ends: what is loaded in one goes through."""

from __future__ import annotations

import pytest

from shared.archive.copybinary import HEADER, TRAILER, encode_stream, inner_pieces
from shared.errors import ArchiveMalformed
from shared.instance.digest import hash_in_order

INNER = bytes(range(256)) * 3 + b"."
STREAM = HEADER + INNER + TRAILER


def cut(stream: bytes, *places: int) -> list[bytes]:
    begins = [0, *places]
    return [stream[a:b] for a, b in zip(begins, [*places, len(stream)], strict=True)]


@pytest.mark.parametrize(
    "places",
    [(), (len(HEADER),), (100, 200), (len(STREAM) - 2,), (len(STREAM) - 1,), (300, len(STREAM) - 1)],
    ids=["one", "the header alone", "three", "the trailer alone", "half a trailer", "half, of three"],
)  # fmt: skip
def test_wherever_it_is_cut_the_same_stands_between_its_ends(places: tuple[int, ...]) -> None:
    assert b"".join(inner_pieces(cut(STREAM, *places))) == INNER


def test_a_stream_without_rows_has_nothing_between_its_ends() -> None:
    assert b"".join(inner_pieces([encode_stream([])])) == b""


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b""],
        [HEADER],
        [HEADER[:-1] + b"\1" + TRAILER],
        [INNER + TRAILER],
        [HEADER + INNER],
        [HEADER + INNER + TRAILER[:1]],
        [HEADER + INNER + TRAILER[:1], b"\0"],
        [HEADER, INNER, TRAILER[:1]],
    ],
    ids=[
        "nothing", "an empty piece", "the header", "an extension", "no header", "no trailer",
        "half a trailer", "another trailer", "half a trailer, in pieces",
    ],
)  # fmt: skip
def test_anything_but_one_whole_stream_is_refused(pieces: list[bytes]) -> None:
    with pytest.raises(ArchiveMalformed):
        b"".join(inner_pieces(pieces))


def test_the_hash_of_rows_in_order_is_that_of_what_stands_between_the_ends() -> None:
    rows = [b"one", b"", b"three"]
    assert hash_in_order(rows) == (3, hash_in_order([b"".join(rows)])[1])
    assert hash_in_order(rows)[1] != hash_in_order(rows[::-1])[1]
