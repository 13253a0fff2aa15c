"""A COPY stream is split into the same tuples, whatever lengths their fields have and had."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archive.copybinary import (
    HEADER,
    LAYOUTS,
    TRAILER,
    TupleLayout,
    encode_stream,
    encode_tuple,
    split_fields,
    split_tuples,
)
from shared.errors import ArchiveMalformed

FIELDS = st.none() | st.sampled_from([b"", b"\xff\xff", bytes(16)]) | st.binary(max_size=9)
ROWS = st.lists(st.lists(FIELDS, min_size=1, max_size=6), max_size=40)


@given(rows=ROWS)
def test_tuples_of_any_layouts_come_out_as_they_went_in(rows: list[list[bytes | None]]) -> None:
    assert [split_fields(row) for row in split_tuples(encode_stream(map(encode_tuple, rows)))] == (
        rows
    )


@given(rows=ROWS.filter(bool), data=st.data())
def test_a_stream_that_ends_anywhere_before_its_end_is_refused(
    rows: list[list[bytes | None]], data: st.DataObject
) -> None:
    stream = encode_stream(map(encode_tuple, rows))
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(ArchiveMalformed):
        list(split_tuples(stream[:cut]))


@pytest.mark.parametrize(
    "odd",
    [
        b"\x00\x00",
        b"\xff\xfe",
        b"\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xfe",
        b"\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x09bcd",
        b"\x00\x02\xff\xff\xff\xf0\x00\x00\x00\x00",
    ],
    ids=["no fields", "a negative count", "a negative length", "too long", "negative first"],
)
@pytest.mark.parametrize("learned", [0, 1, 5])
def test_an_odd_tuple_is_refused_behind_any_number_of_good_ones(odd: bytes, learned: int) -> None:
    good = [encode_tuple([b"a", bytes(length)]) for length in range(learned)]
    with pytest.raises(ArchiveMalformed):
        list(split_tuples(HEADER + b"".join(good) + odd + TRAILER))


def test_ever_new_layouts_are_learned_only_so_often() -> None:
    layout = TupleLayout()
    for fields in range(1, LAYOUTS + 1):
        layout.learn([0] * fields)
    known = encode_tuple([b""] * LAYOUTS)
    assert layout.end_of(known, 0) == len(known)
    layout.learn([0])
    assert layout.end_of(known, 0) == len(known)
    assert layout.end_of(encode_tuple([b""]), 0) is None
