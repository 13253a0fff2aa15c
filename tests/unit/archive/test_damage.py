"""A file that is cut off, altered or another's is refused, at any byte, with the right code."""

from __future__ import annotations

import io
from random import Random

import pytest

from shared.archive.age import HybridIdentity, Identity, X25519Identity, seal
from shared.archive.age.stream import CHUNK_BYTES, NONCE_BYTES, SEALED_CHUNK_BYTES
from shared.archive.reader import open_archive
from shared.errors import SecrynError, WrongKeyOrHeader
from tests.unit.archive.building import IDENTITY, TABLE, build, handmade, project, timestamp
from tests.unit.archive.refusing import code_of

SMALL = build({TABLE: [project("x")]}, tables=[TABLE]).data
# Two whole chunks and a piece: the value does not compress.
VALUE = Random(1).randbytes(2 * CHUNK_BYTES)
LARGE = build(
    {"secret_versions": [[bytes(16), bytes(4), VALUE, bytes(4), timestamp(), b"someone"]]}
).data
INTRO_BYTES = len(b"age-encryption.org/v1\n")
HEADER_CODES = {"archive.not_age", "archive.header_invalid", "archive.wrong_key_or_header"}


def header_end(data: bytes) -> int:
    return data.index(b"\n", data.index(b"\n--- ") + 1) + 1


def content_positions(begin: int) -> list[int]:
    """Return every position near the content's ends, and every third between: it is one chunk."""
    near = [*range(begin, begin + 64), *range(len(SMALL) - 64, len(SMALL))]
    return [*near, *range(begin + 64, len(SMALL) - 64, 3)]


def test_a_file_cut_off_at_any_byte_is_refused() -> None:
    end = header_end(SMALL)
    assert code_of(SMALL) is None
    assert code_of(b"") == "archive.not_age"
    for length in range(1, end + NONCE_BYTES):
        assert code_of(SMALL[:length]) == "archive.truncated", length
    for length in content_positions(end + NONCE_BYTES):
        assert code_of(SMALL[:length]) == "archive.damaged", length


def test_a_file_cut_off_around_a_chunk_is_refused() -> None:
    begin = header_end(LARGE) + NONCE_BYTES
    assert len(LARGE) > begin + SEALED_CHUNK_BYTES
    boundary = begin + SEALED_CHUNK_BYTES
    assert code_of(LARGE) is None
    assert code_of(LARGE[: boundary - 1]) == "archive.damaged"
    assert code_of(LARGE[:boundary]) == "archive.truncated"
    assert code_of(LARGE[: boundary + 1]) == "archive.damaged"


def test_any_flipped_bit_of_the_header_is_refused() -> None:
    for position in range(header_end(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[position] ^= 1 << bit
            code = code_of(bytes(damaged))
            expected = {"archive.not_age"} if position < INTRO_BYTES else HEADER_CODES
            assert code in expected, (position, bit, code)


def test_any_flipped_byte_of_the_content_is_refused() -> None:
    for position in content_positions(header_end(SMALL)):
        damaged = bytearray(SMALL)
        damaged[position] ^= 1 << position % 8
        assert code_of(bytes(damaged)) == "archive.damaged", position


@pytest.mark.parametrize("added", [b"\0", b"\n", SMALL, bytes(SEALED_CHUNK_BYTES)])
def test_anything_behind_the_end_is_refused(added: bytes) -> None:
    assert code_of(SMALL + added) == "archive.damaged"


def test_chunks_that_were_moved_doubled_or_left_out_are_refused() -> None:
    begin = header_end(LARGE) + NONCE_BYTES
    head, body = LARGE[:begin], LARGE[begin:]
    chunks = [body[at : at + SEALED_CHUNK_BYTES] for at in range(0, len(body), SEALED_CHUNK_BYTES)]
    assert len(chunks) > 2
    others = [
        [chunks[1], chunks[0], *chunks[2:]],
        [chunks[0], *chunks],
        chunks[1:],
        [chunks[0], *chunks[2:]],
        [*chunks, chunks[-1]],
    ]
    for other in others:
        assert code_of(head + b"".join(other)) == "archive.damaged"


def test_a_byte_altered_by_someone_who_has_the_key_is_refused() -> None:
    tar = handmade([project("x")]).tar()
    for position in range(0, len(tar), 5):
        damaged = bytearray(tar)
        damaged[position] ^= 1 << position % 8
        assert code_of(sealed(bytes(damaged))) is not None, position


def test_a_tar_stream_cut_off_by_someone_who_has_the_key_is_refused() -> None:
    tar = handmade([project("x")]).tar()
    for length in [*range(0, len(tar), 61), len(tar) - 512, len(tar) - 1]:
        assert code_of(sealed(tar[:length])) == "archive.malformed", length


def sealed(tar: bytes) -> bytes:
    return seal(tar, [IDENTITY.to_recipient()])


@pytest.mark.parametrize("key", [X25519Identity.generate(), HybridIdentity.generate()])
@pytest.mark.parametrize("owner", [IDENTITY, HybridIdentity(bytes(32))])
def test_another_key_is_refused_and_no_message_holds_it(owner: Identity, key: Identity) -> None:
    data = build(tables=[TABLE], identity=owner).data
    with pytest.raises(WrongKeyOrHeader) as caught:
        open_archive(io.BytesIO(data), [key])
    assert key.encode() not in caught.value.message + caught.value.advice + repr(key)


def test_the_right_key_among_others_opens() -> None:
    keys: list[Identity] = [X25519Identity.generate(), HybridIdentity.generate(), IDENTITY]
    assert open_archive(io.BytesIO(SMALL), keys).header.environment == "test"


@pytest.mark.parametrize(
    "data",
    [
        b"PK\3\4 a zip file",
        b"-----BEGIN AGE ENCRYPTED FILE-----\n",
        b"age-encryption.org/v2\n-> X25519 a\n",
        b"\0" * 100_000,
        SMALL[1:],
        b"\xef\xbb\xbf" + SMALL,
    ],
)
def test_what_is_not_an_age_file_is_told_apart(data: bytes) -> None:
    assert code_of(data) == "archive.not_age"


def test_a_reader_that_was_not_read_to_its_end_has_no_manifest() -> None:
    reader = open_archive(io.BytesIO(LARGE), [IDENTITY])
    with pytest.raises(SecrynError, match="not read to its end"):
        _ = reader.manifest
