"""What is written is read again, at every boundary of the layers and for every type."""

from __future__ import annotations

import io
import json
import struct

import pytest

from shared.archive import members
from shared.archive.age import EncryptWriter, open_sealed
from shared.archive.age.stream import CHUNK_BYTES as C
from shared.archive.copybinary import encode_stream, encode_tuple, split_fields, split_tuples
from shared.archive.limits import DEFAULT_LIMITS, Limits
from shared.archive.members import Member
from shared.archive.reader import open_archive
from shared.archive.verify import verify_archive
from shared.errors import ArchiveLimitExceeded
from shared.instance.keyring import check_value_of
from tests.unit.archive.building import (
    COLUMNS,
    IDENTITY,
    TABLE,
    Built,
    Row,
    build,
    compress,
    data_key_row,
    handmade,
    project,
    timestamp,
)

PART = 64 * 1024
SMALL_PARTS = Limits(part_raw_bytes=PART, part_stored_bytes=2 * PART)
# Two values a type and NULL: the smallest and the largest, or empty and awkward.
VALUES: dict[str, tuple[bytes, bytes]] = {
    "bigint": (struct.pack(">q", -(2**63)), struct.pack(">q", 2**63 - 1)),
    "boolean": (b"\0", b"\1"),
    "bytea": (b"", bytes(range(256))),
    "integer": (struct.pack(">i", -(2**31)), struct.pack(">i", 2**31 - 1)),
    "jsonb": (b"\1{}", b'\1{"\xc3\xa4": [1e400, null, "\\u0000"]}'),
    "text": (b"", 'ä€𝄞 "quoted",\r\n\ttab \\N'.encode()),
    "timestamp with time zone": (timestamp(-(2**63)), timestamp(2**63 - 1)),
    "uuid": (bytes(16), b"\xff" * 16),
}


def read(archive: Built, limits: Limits = DEFAULT_LIMITS) -> dict[str, list[list[bytes | None]]]:
    """Return every row of an archive, verified."""
    verify_archive(io.BytesIO(archive.data), [archive.key.identity], limits)
    found: dict[str, list[list[bytes | None]]] = {}
    for part in open_archive(io.BytesIO(archive.data), [archive.key.identity], limits).parts():
        found.setdefault(part.table, []).extend(map(split_fields, split_tuples(part.copy)))
    return found


@pytest.mark.parametrize("size", [0, 1, C - 1, C, C + 1, 2 * C - 1, 2 * C, 2 * C + 1])
@pytest.mark.parametrize("write", [1 << 20, C, 1000])
def test_a_payload_of_every_length_around_a_chunk_is_read_whole(size: int, write: int) -> None:
    plaintext = bytes(range(256)) * (size // 256 + 1)
    sink = io.BytesIO()
    writer = EncryptWriter(sink, [IDENTITY.to_recipient()])
    for start in range(0, size, write):
        writer.write(plaintext[start : min(start + write, size)])
    writer.close()
    chunks = max(-(-size // C), 1)
    header = sink.getvalue().index(b"\n--- ") + len("\n--- ") + 43 + 1
    assert len(sink.getvalue()) == header + 16 + size + 16 * chunks
    assert open_sealed(sink.getvalue(), [IDENTITY], size) == plaintext[:size]
    if size:
        with pytest.raises(ArchiveLimitExceeded):
            open_sealed(sink.getvalue(), [IDENTITY], size - 1)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024])
def test_a_member_of_every_length_around_a_block_is_padded_to_whole_blocks(size: int) -> None:
    found = Member("backup.json", size)
    assert (size + found.padding) % members.BLOCK_BYTES == 0
    assert 0 <= found.padding < members.BLOCK_BYTES
    assert members.decode_header(members.encode_header(found)) == found


def test_the_largest_member_fits_into_a_header_and_one_byte_more_does_not() -> None:
    largest = Member("backup.json", members.MAX_MEMBER_BYTES)
    assert members.decode_header(members.encode_header(largest)) == largest
    for size in (members.MAX_MEMBER_BYTES + 1, -1):
        with pytest.raises(Exception, match="does not fit"):
            members.encode_header(Member("backup.json", size))


def row_of_part(size: int) -> Row:
    """Return a row whose part has ``size`` bytes of COPY data."""
    empty = len(encode_stream([encode_tuple(project(""))]))
    return project(b"x" * (size - empty))


@pytest.mark.parametrize("size", [200, PART - 1, PART])
def test_a_part_up_to_the_limit_is_read(size: int) -> None:
    archive = build({TABLE: [row_of_part(size)]})
    assert read(archive, SMALL_PARTS)[TABLE] == [list(row_of_part(size))]


@pytest.mark.parametrize("size", [PART + 1, 2 * PART])
def test_a_part_over_the_limit_is_refused(size: int) -> None:
    with pytest.raises(ArchiveLimitExceeded):
        read(build({TABLE: [row_of_part(size)]}), SMALL_PARTS)


def test_parts_of_the_largest_size_are_read_one_behind_the_other() -> None:
    rows = [row_of_part(PART)] * 3
    assert read(build({TABLE: rows}, rows_a_part=1), SMALL_PARTS)[TABLE] == [list(r) for r in rows]


@pytest.mark.parametrize(("rows", "rows_a_part"), [(0, 1), (1, 1), (2, 1), (5, 2), (20_000, 3000)])
def test_none_one_and_many_rows_are_read_in_their_parts(rows: int, rows_a_part: int) -> None:
    written = [project(f"name {number}", number=number) for number in range(rows)]
    archive = build({TABLE: written}, rows_a_part=rows_a_part)
    assert read(archive)[TABLE] == [list(row) for row in written]
    assert archive.manifest.tables[TABLE].parts == max(-(-rows // rows_a_part), 1)


def test_an_empty_instance_is_an_archive() -> None:
    assert {name: rows for name, rows in read(build()).items() if rows} == {}


@pytest.mark.parametrize("table", [table for table in COLUMNS if table != "keyring"])
def test_every_column_is_read_back_as_null_as_smallest_and_as_largest(table: str) -> None:
    columns = COLUMNS[table]
    rows: list[Row] = [
        [None] * len(columns),
        [VALUES[column.type][0] for column in columns],
        [VALUES[column.type][1] for column in columns],
    ]
    assert read(build({table: rows}))[table] == [list(row) for row in rows]


def test_a_huge_value_is_read_back() -> None:
    sealed = bytes(7) + bytes(range(256)) * 40_000
    row: Row = [bytes(16), b"\0\0\0\1", sealed, b"\0\0\0\0", timestamp(), b"someone"]
    assert read(build({"secret_versions": [row]}))["secret_versions"] == [list(row)]


def test_data_keys_travel_and_their_digest_takes_the_check_value() -> None:
    one = build({"keyring": [data_key_row(bytes(32))]})
    two = build({"keyring": [data_key_row(b"\1" * 32)]})
    assert read(one)["keyring"][0][3] == bytes(32)
    assert read(one)["keyring"][0][4] == check_value_of(bytes(32))
    digests = {archive.manifest.tables["keyring"].digest for archive in (one, two)}
    assert len(digests) == 2


def test_a_digest_does_not_depend_on_order_or_parts_but_on_every_row() -> None:
    rows = [project(f"{number}", number=number) for number in range(9)]
    whole, parted = build({TABLE: rows}), build({TABLE: rows[::-1]}, rows_a_part=2)
    assert whole.manifest.digest == parted.manifest.digest
    assert whole.manifest.digest != build({TABLE: rows[1:]}).manifest.digest
    doubled = build({TABLE: [*rows, rows[0]]})
    assert whole.manifest.digest != doubled.manifest.digest


def test_a_source_that_gives_a_byte_at_a_time_reads_the_same() -> None:
    archive = build({TABLE: [project("x")]}, tables=[TABLE])

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 1) if (size or 0) >= 0 else 1)

    slow = verify_archive(Slow(archive.data), [archive.key.identity])
    assert (slow.sha256, slow.size_bytes) == (archive.key.sha256, len(archive.data))


def test_nothing_of_the_content_can_be_read_without_the_key() -> None:
    data = build({TABLE: [project("a-name-to-look-for")]}).data
    for text in (b"a-name-to-look-for", TABLE.encode(), b"backup.json", b"ustar", b"test"):
        assert text not in data


def test_the_handmade_archive_is_sound_before_it_is_spoilt() -> None:
    raw = encode_stream([encode_tuple(project("x"))])
    made = handmade([project("x")], compress(raw))
    found = verify_archive(io.BytesIO(made.sealed()), [IDENTITY])
    assert json.loads(found.manifest.model_dump_json())["tables"][TABLE]["rows"] == 1
