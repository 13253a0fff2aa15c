"""The header: its limits hold while reading, and it is bound to the key."""

import io

import pytest

from shared.archive.age import DecryptReader, HybridIdentity, X25519Identity, seal
from shared.archive.age.header import (
    INTRO,
    MAX_HEADER_BYTES,
    MAX_STANZAS,
    Stanza,
    b64decode,
    b64encode,
    encode_header,
    read_header,
)
from shared.errors import (
    AgeHeaderInvalid,
    ArchiveError,
    ArchiveTruncated,
    NotAnAgeFile,
    WrongKeyOrHeader,
)
from tests.unit.archive_age.keys import IDENTITY, RECIPIENT, opened, sealed

FILE_KEY = bytes(16)


def header(*stanzas: Stanza) -> bytes:
    return encode_header(stanzas, FILE_KEY)


def stanza(body: bytes = b"x", *arguments: str) -> Stanza:
    return Stanza("grease", arguments, body)


class Counting(io.BytesIO):
    """Count what is read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("length", [0, 1, 47, 48, 49, 96, 1000])
def test_a_stanza_is_read_as_it_was_written(length: int) -> None:
    written = stanza(bytes(i % 256 for i in range(length)), "one", "two")
    source = io.BytesIO(header(written) + b"payload")
    assert read_header(source).stanzas == (written,)
    assert source.read() == b"payload"


def test_nothing_behind_the_header_is_read() -> None:
    data = header(stanza())
    source = Counting(data + bytes(1000))
    read_header(source)
    assert source.taken == len(data)


def test_as_many_stanzas_as_allowed_and_not_one_more() -> None:
    assert len(read_header(io.BytesIO(header(*[stanza()] * MAX_STANZAS))).stanzas) == MAX_STANZAS
    with pytest.raises(AgeHeaderInvalid, match="more stanzas"):
        read_header(io.BytesIO(header(*[stanza()] * (MAX_STANZAS + 1))))


def test_a_header_longer_than_allowed_is_refused_without_reading_on() -> None:
    source = Counting(header(stanza(bytes(10 * MAX_HEADER_BYTES))))
    with pytest.raises(AgeHeaderInvalid, match="longer"):
        read_header(source)
    assert source.taken <= len(INTRO) + MAX_HEADER_BYTES + 1


def test_a_line_without_an_end_is_refused_without_reading_on() -> None:
    source = Counting(INTRO + b"-> X25519 " + b"A" * (4 * MAX_HEADER_BYTES))
    with pytest.raises(AgeHeaderInvalid, match="longer"):
        read_header(source)
    assert source.taken <= len(INTRO) + MAX_HEADER_BYTES + 1


def test_the_limits_of_a_reader_can_be_narrower() -> None:
    data = seal(b"", [RECIPIENT, X25519Identity.generate().to_recipient()])
    with pytest.raises(AgeHeaderInvalid, match="more stanzas"):
        DecryptReader(io.BytesIO(data), [IDENTITY], max_stanzas=1)
    with pytest.raises(AgeHeaderInvalid, match="longer"):
        DecryptReader(io.BytesIO(data), [IDENTITY], max_header_bytes=100)


def test_a_header_cut_off_anywhere_is_told_as_truncated() -> None:
    data = header(stanza(bytes(50), "argument"))
    for length in range(1, len(data)):
        with pytest.raises(ArchiveTruncated):
            read_header(io.BytesIO(data[:length]))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"age-encryption.org/v2\n", INTRO.upper(), b"\xff" * 64]
)
def test_what_is_no_age_file_is_told_as_such(data: bytes) -> None:
    with pytest.raises(NotAnAgeFile):
        read_header(io.BytesIO(data))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"--- " + b64encode(bytes(32)), id="no stanza"),
        pytest.param(b"->  x\n\n--- " + b64encode(bytes(32)), id="an empty argument"),
        pytest.param(b"-> x \xc3\xa4\n\n--- " + b64encode(bytes(32)), id="not ASCII"),
        pytest.param(b"-> x\r\n\n--- " + b64encode(bytes(32)), id="a carriage return"),
        pytest.param(b"-> x\nAA==\n--- " + b64encode(bytes(32)), id="padded base64"),
        pytest.param(b"-> x\nAB\n--- " + b64encode(bytes(32)), id="base64 not canonical"),
        pytest.param(b"-> x\n" + b"A" * 68 + b"\n\n--- " + b64encode(bytes(32)), id="a long line"),
        pytest.param(b"-> x\n\n---" + b64encode(bytes(32)), id="no space before the MAC"),
        pytest.param(b"-> x\n\n--- " + b64encode(bytes(31)), id="a short MAC"),
        pytest.param(b"-> x\n\n---", id="no MAC"),
        pytest.param(b"hello\n--- " + b64encode(bytes(32)), id="a line that begins no stanza"),
    ],
)
def test_a_header_against_the_grammar_is_refused(lines: bytes) -> None:
    with pytest.raises(AgeHeaderInvalid):
        read_header(io.BytesIO(INTRO + lines + b"\n"))


@pytest.mark.parametrize("text", [b"A", b"AA==", b"AB", b"A A", b"AA\n", b"A-_A", b"AAAA="])
def test_base64_is_canonical_or_refused(text: bytes) -> None:
    with pytest.raises(AgeHeaderInvalid):
        b64decode(text)


def test_every_single_changed_byte_of_a_header_is_refused() -> None:
    data = sealed(b"content")
    end = data.index(b"\n", data.index(b"\n--- ") + 1)
    for position in range(end + 1):
        changed = bytearray(data)
        changed[position] ^= 0x01
        with pytest.raises(ArchiveError):
            opened(bytes(changed))


def test_a_stanza_added_by_somebody_else_is_refused() -> None:
    data = sealed(b"content")
    added = stanza(b"mine", "added").encode()
    with pytest.raises(WrongKeyOrHeader):
        opened(data.replace(b"\n--- ", b"\n" + added + b"--- ", 1))


def test_the_header_of_one_file_does_not_open_the_content_of_another() -> None:
    first, second = sealed(b"first"), sealed(b"other")
    with pytest.raises(ArchiveError):
        opened(first[: -(5 + 16 + 16)] + second[-(5 + 16 + 16) :])


def test_a_key_of_another_kind_is_told_as_a_wrong_key() -> None:
    with pytest.raises(WrongKeyOrHeader):
        opened(sealed(b""), HybridIdentity(bytes(32)))
    with pytest.raises(WrongKeyOrHeader):
        opened(sealed(b""), X25519Identity(bytes(32)))
    with pytest.raises(WrongKeyOrHeader):
        DecryptReader(io.BytesIO(sealed(b"")), [])
