"""The payload: every length around a chunk's end, every size of reading, every way of breaking."""

import io
import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.archive.age import DecryptReader, EncryptWriter, open_sealed
from shared.archive.age.stream import (
    CHUNK_BYTES,
    NONCE_BYTES,
    SEALED_CHUNK_BYTES,
    TAG_BYTES,
    StreamReader,
    StreamWriter,
    chunk_nonce,
)
from shared.errors import ArchiveDamaged, ArchiveLimitExceeded, ArchiveTruncated
from tests.plugins.hypothesis_profile import scaled
from tests.unit.archive_age.keys import IDENTITY, RECIPIENT, opened, sealed

LENGTHS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES]
PLAINTEXT = os.urandom(2 * CHUNK_BYTES + 1000)
FILE_KEY = bytes(range(16))


class Dripping:
    """A source that gives a few bytes at a time, as a socket does."""

    def __init__(self, data: bytes, at_once: int) -> None:
        self._inner = io.BytesIO(data)
        self._at_once = at_once

    def read(self, size: int = -1, /) -> bytes:
        return self._inner.read(min(size, self._at_once) if size >= 0 else self._at_once)


def payload(plaintext: bytes) -> bytes:
    sink = io.BytesIO()
    writer = StreamWriter(sink, FILE_KEY)
    writer.write(plaintext)
    writer.finish()
    return sink.getvalue()


def chunks(data: bytes) -> list[bytes]:
    body = data[NONCE_BYTES:]
    return [body[i : i + SEALED_CHUNK_BYTES] for i in range(0, len(body), SEALED_CHUNK_BYTES)]


def read_all(data: bytes) -> bytes:
    reader = StreamReader(io.BytesIO(data), FILE_KEY)
    return b"".join(iter(reader.next_chunk, b""))


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_written_is_read(length: int) -> None:
    assert opened(sealed(PLAINTEXT[:length])) == PLAINTEXT[:length]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_payload_has_no_chunk_too_many(length: int) -> None:
    parts = chunks(payload(PLAINTEXT[:length]))
    assert len(parts) == max(1, -(-length // CHUNK_BYTES))
    assert sum(len(part) - TAG_BYTES for part in parts) == length


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("piece", [1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 1 << 20])
def test_the_size_of_the_writes_does_not_matter(length: int, piece: int) -> None:
    sink = io.BytesIO()
    writer = EncryptWriter(sink, [RECIPIENT])
    for start in range(0, length, piece):
        part = PLAINTEXT[start : min(start + piece, length)]
        assert writer.write(part) == len(part)
    writer.close()
    assert opened(sink.getvalue()) == PLAINTEXT[:length]


@pytest.mark.parametrize("size", [7, 1000, CHUNK_BYTES - 1, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_read_gives_exactly_its_size_until_the_end(size: int) -> None:
    plaintext = PLAINTEXT if size >= 1000 else PLAINTEXT[: CHUNK_BYTES + 20]
    reader = DecryptReader(io.BytesIO(sealed(plaintext)), [IDENTITY])
    parts = list(iter(lambda: reader.read(size), b""))
    assert b"".join(parts) == plaintext
    assert {len(part) for part in parts[:-1]} <= {size}
    assert reader.read(size) == b""


@pytest.mark.parametrize("at_once", [1, 13, CHUNK_BYTES])
def test_a_source_that_drips_is_read_all_the_same(at_once: int) -> None:
    plaintext = PLAINTEXT[:300] if at_once == 1 else PLAINTEXT[: CHUNK_BYTES + 1]
    assert DecryptReader(Dripping(sealed(plaintext), at_once), [IDENTITY]).read() == plaintext


def test_a_buffered_reader_over_it_reads_everything() -> None:
    reader = io.BufferedReader(DecryptReader(io.BytesIO(sealed(PLAINTEXT)), [IDENTITY]), 10_000)
    assert reader.read() == PLAINTEXT


@settings(max_examples=scaled(30))
@given(st.lists(st.integers(0, 40_000), max_size=8), st.lists(st.integers(1, 50_000), min_size=1))
def test_any_writes_and_any_reads_agree(writes: list[int], reads: list[int]) -> None:
    sink = io.BytesIO()
    writer = EncryptWriter(sink, [RECIPIENT])
    ends = [sum(writes[:i]) for i in range(len(writes) + 1)]
    source = PLAINTEXT * 3
    for start, end in pairwise(ends):
        writer.write(source[start:end])
    writer.close()
    reader = DecryptReader(io.BytesIO(sink.getvalue()), [IDENTITY])
    got = b"".join(reader.read(size) for size in reads) + reader.read()
    assert got == source[: ends[-1]]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_payload_cut_off_anywhere_near_its_end_is_refused(length: int) -> None:
    data = payload(PLAINTEXT[:length])
    for missing in (1, TAG_BYTES - 1, TAG_BYTES):
        with pytest.raises(ArchiveDamaged):
            read_all(data[:-missing])


def test_a_payload_cut_off_behind_a_whole_chunk_is_told_as_truncated() -> None:
    data = payload(PLAINTEXT)
    reader = StreamReader(io.BytesIO(data[: NONCE_BYTES + SEALED_CHUNK_BYTES]), FILE_KEY)
    assert reader.next_chunk() == PLAINTEXT[:CHUNK_BYTES]
    with pytest.raises(ArchiveTruncated):
        reader.next_chunk()


@pytest.mark.parametrize("kept", [0, 1, NONCE_BYTES - 1])
def test_a_payload_cut_off_in_its_nonce_is_told_as_truncated(kept: int) -> None:
    with pytest.raises(ArchiveTruncated):
        StreamReader(io.BytesIO(payload(b"abc")[:kept]), FILE_KEY)


@pytest.mark.parametrize("length", LENGTHS)
def test_anything_behind_the_end_is_refused(length: int) -> None:
    for more in (b"\0", bytes(TAG_BYTES), bytes(SEALED_CHUNK_BYTES)):
        with pytest.raises(ArchiveDamaged):
            read_all(payload(PLAINTEXT[:length]) + more)


def test_chunks_in_another_order_are_refused() -> None:
    data = payload(PLAINTEXT)
    first, second, last = chunks(data)
    with pytest.raises(ArchiveDamaged):
        read_all(data[:NONCE_BYTES] + second + first + last)
    with pytest.raises(ArchiveDamaged):
        read_all(data[:NONCE_BYTES] + first + last)


def test_a_chunk_that_is_empty_is_refused_behind_others() -> None:
    sink = io.BytesIO()
    writer = StreamWriter(sink, FILE_KEY)
    # As only a faulty writer does it: a whole chunk that is not the last, then an empty last one.
    writer._seal(bytearray(PLAINTEXT[:CHUNK_BYTES]), last=False)
    writer.finish()
    with pytest.raises(ArchiveDamaged, match="empty"):
        read_all(sink.getvalue())


@pytest.mark.parametrize("where", [0, 5, CHUNK_BYTES, SEALED_CHUNK_BYTES - 1, SEALED_CHUNK_BYTES])
def test_one_changed_bit_is_found_and_nothing_of_its_chunk_returned(where: int) -> None:
    data = bytearray(payload(PLAINTEXT))
    data[NONCE_BYTES + where] ^= 1
    reader = StreamReader(io.BytesIO(data), FILE_KEY)
    if where >= SEALED_CHUNK_BYTES:
        assert reader.next_chunk() == PLAINTEXT[:CHUNK_BYTES]
    with pytest.raises(ArchiveDamaged):
        reader.next_chunk()


def test_a_found_fault_is_told_again() -> None:
    reader = DecryptReader(io.BytesIO(sealed(PLAINTEXT)[:-1]), [IDENTITY])
    assert reader.read(2 * CHUNK_BYTES) == PLAINTEXT[: 2 * CHUNK_BYTES]
    for _ in range(2):
        with pytest.raises(ArchiveDamaged):
            reader.read(1)


def test_the_nonce_counts_in_eleven_bytes_and_marks_the_last_chunk() -> None:
    assert chunk_nonce(0, last=False) == bytes(12)
    assert chunk_nonce(0x0102, last=True) == bytes(9) + b"\x01\x02\x01"


def test_the_same_content_is_never_encrypted_alike() -> None:
    first, second = sealed(b"same"), sealed(b"same")
    assert first != second
    assert first[-NONCE_BYTES:] != second[-NONCE_BYTES:]


@pytest.mark.parametrize("length", [0, 99, 100])
def test_a_small_message_is_opened_up_to_its_limit(length: int) -> None:
    assert open_sealed(sealed(bytes(length)), [IDENTITY], 100) == bytes(length)


def test_a_message_over_its_limit_is_refused() -> None:
    with pytest.raises(ArchiveLimitExceeded):
        open_sealed(sealed(bytes(101)), [IDENTITY], 100)
