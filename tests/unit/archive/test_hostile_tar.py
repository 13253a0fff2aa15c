"""Members that no writer of ours lays: another kind, another name, another order, another size."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from shared.archive.age import seal
from shared.archive.limits import Limits
from shared.archive.members import Member, encode_header, parse_part_name, part_name
from shared.errors import ArchiveMalformed
from tests.unit.archive.building import (
    IDENTITY,
    TABLE,
    Handmade,
    entry_of,
    handmade,
    member,
    project,
)
from tests.unit.archive.refusing import MiB, assert_refused, code_of

EMPTY = handmade().parts[0][1]


def sealed(tar: bytes) -> bytes:
    return seal(tar, [IDENTITY.to_recipient()])


def with_block(block: bytes) -> bytes:
    """Return an archive with ``block`` where the first part must stand."""
    made = handmade()
    made.blocks[0] = block
    return made.sealed()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
        tarfile.DIRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
        tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.AREGTYPE,
    ],
)  # fmt: skip
def test_no_member_but_a_regular_one_passes(kind: bytes) -> None:
    info = tarfile.TarInfo(part_name(TABLE, 0))
    info.type, info.linkname, info.mode = kind, "/etc/shadow", 0o600
    assert_refused(with_block(info.tobuf(tarfile.USTAR_FORMAT)), "archive.malformed")


@pytest.mark.parametrize(
    "change",
    [
        {"mode": 0o4755}, {"uid": 1}, {"gid": 1}, {"mtime": 1}, {"uname": "root"},
        {"gname": "root"}, {"linkname": "x"}, {"devmajor": 1}, {"name": "a/" * 60 + "long"},
    ],
)  # fmt: skip
def test_no_field_of_a_header_block_is_free(change: dict[str, object]) -> None:
    info = tarfile.TarInfo(part_name(TABLE, 0))
    info.mode = 0o600
    for name, value in change.items():
        setattr(info, name, value)
    assert_refused(with_block(info.tobuf(tarfile.USTAR_FORMAT)), "archive.malformed")


def test_a_giant_extended_header_is_refused_before_it_is_read() -> None:
    info = tarfile.TarInfo("x" * 10_000_000)
    info.mode = 0o600
    for block in (info.tobuf(tarfile.PAX_FORMAT), info.tobuf(tarfile.GNU_FORMAT)):
        assert_refused(with_block(block), "archive.malformed", memory_bytes=4 * MiB)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "/etc/passwd", "tables/../../x", "tables/projects/../000000.copy.zst",
        "./backup.json", "tables//000000.copy.zst", "tables/Projects/000000.copy.zst",
        "tables/projects/000000.copy.zst\n", "tables/projects/00000.copy.zst",
        "tables/projects/0000000.copy.zst", "tables/projects/000000.COPY.ZST", "tables/projects/",
        "tables/1st/000000.copy.zst", f"tables/{'t' * 64}/000000.copy.zst", "projects", "", "-rf",
        "tables/pro jects/000000.copy.zst", "tables/pro\0jects/000000.copy.zst",
    ],
)  # fmt: skip
def test_no_name_outside_of_the_grammar_passes(name: str) -> None:
    assert parse_part_name(name) is None
    assert_refused(with_block(member(name, EMPTY)), "archive.malformed")


def test_a_name_that_is_not_ascii_is_refused() -> None:
    block = bytearray(encode_header(Member("tables/projects/000000.copy.zst", 0)))
    block[7:9] = "ä".encode()
    assert_refused(with_block(bytes(block)), "archive.malformed")


def test_a_table_outside_of_the_grammar_is_not_written() -> None:
    for table in ("", "../x", "Projects", "t" * 64, "a\n"):
        with pytest.raises(ArchiveMalformed):
            part_name(table, 0)
    with pytest.raises(ArchiveMalformed):
        part_name(TABLE, 1_000_000)


A0, A1, A2 = (part_name("projects", number) for number in range(3))
B0 = part_name("vaults", 0)


@pytest.mark.parametrize(
    "names",
    [[A0, A0], [A1], [A0, A2], [A1, A0], [A0, B0, A1], [A0, B0, A0], [A0, A1, A1]],
)
def test_a_part_that_comes_twice_or_out_of_order_is_refused(names: list[str]) -> None:
    tables = {"projects": entry_of("projects", []), "vaults": entry_of("vaults", [])}
    made = Handmade([(name, EMPTY) for name in names], tables)
    assert_refused(made.sealed(), "archive.malformed")


FIXED = {name: member(name, b"{}") for name in ("backup.json", "schema.sql", "manifest.json")}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", list(FIXED))
def test_a_fixed_member_at_another_place_or_twice_is_refused(name: str, place: int) -> None:
    made = handmade()
    made.blocks[place] = FIXED[name]
    assert_refused(made.sealed(), "archive.malformed")


def pieces() -> list[bytes]:
    """Return the members of a sound archive, each with its header and padding."""
    tar = handmade([project("x")]).tar()
    found: list[bytes] = []
    with tarfile.open(fileobj=io.BytesIO(tar)) as reading:
        infos = reading.getmembers()
    ends = [*(info.offset for info in infos[1:]), len(tar) - 1024]
    for info, end in zip(infos, ends, strict=True):
        found.append(tar[info.offset : end])
    return found


END = bytes(1024)
ORDERS: dict[str, Callable[[list[bytes]], bytes]] = {
    "nothing": lambda m: END,
    "without backup.json": lambda m: b"".join([*m[1:], END]),
    "without schema.sql": lambda m: b"".join([*m[:2], *m[3:], END]),
    "without the manifest": lambda m: b"".join([*m[:3], END]),
    "without the signature": lambda m: b"".join([*m[:4], END]),
    "backup.json alone": lambda m: m[0] + END,
    "the signature before the manifest": lambda m: b"".join([*m[:3], m[4], m[3], END]),
    "the schema before the parts": lambda m: b"".join([m[0], m[2], m[1], *m[3:], END]),
    "a part behind the signature": lambda m: b"".join([*m, m[1], END]),
    "the manifest twice": lambda m: b"".join([*m[:4], m[3], m[4], END]),
    "no end": b"".join,
    "half an end": lambda m: b"".join([*m, bytes(512)]),
    "an end that is not zero": lambda m: b"".join([*m, bytes(1023), b"\1"]),
    "a byte behind the end": lambda m: b"".join([*m, END, b"\0"]),
    "another archive behind the end": lambda m: b"".join([*m, END, *m, END]),
    "the end in front": lambda m: b"".join([END, *m, END]),
    "a cut header": lambda m: m[0] + m[1][:300],
    "a cut member": lambda m: m[0] + m[1][:520],
}


def test_the_pieces_are_those_of_a_sound_archive() -> None:
    assert code_of(sealed(b"".join([*pieces(), END]))) is None


@pytest.mark.parametrize("case", list(ORDERS))
def test_any_other_order_is_refused(case: str) -> None:
    assert_refused(sealed(ORDERS[case](pieces())), "archive.malformed")


def test_padding_that_is_not_zero_is_refused() -> None:
    tar = bytearray(handmade().tar())
    tar[1023] = 1
    assert_refused(sealed(bytes(tar)), "archive.malformed")


def sized(name: str, size: bytes) -> bytes:
    """Return a header block with ``size`` in its twelve bytes, and its sum right."""
    block = bytearray(encode_header(Member(name, 0)))
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "size",
    [
        b"-0000000001\0", b"-7777777777\0", b"+0000000001\0", b" 0000000001\0", b"0_000000001\0",
        b"0000000000 ", b"000000000008", b"\x80" + bytes(10) + b"\1", b"\xff" * 12, bytes(12),
        b"0o000000001\0",
    ],
)  # fmt: skip
def test_no_size_but_eleven_octal_digits_passes(size: bytes) -> None:
    # What follows must not be taken for the content of a member of negative size.
    following = bytes(60_000_000 if size.startswith(b"-") else 512)
    block = sized(part_name(TABLE, 0), size.ljust(12, b"\0")) + following
    assert_refused(with_block(block), "archive.malformed")


@pytest.mark.parametrize("name", [part_name(TABLE, 0), "schema.sql"])
def test_a_member_that_claims_eight_gigabytes_is_refused_at_its_header(name: str) -> None:
    assert_refused(with_block(sized(name, b"77777777777\0")), "archive.limit_exceeded")


def test_each_document_is_limited() -> None:
    first = sealed(sized("backup.json", b"%011o\0" % (64 * 1024 + 1)))
    assert_refused(first, "archive.limit_exceeded")
    for name, size in (("manifest.json", 32 * 1024 * 1024), ("manifest.sig", 64)):
        at = {"manifest.json": 3, "manifest.sig": 4}[name]
        data = sealed(b"".join(pieces()[:at]) + sized(name, b"%011o\0" % (size + 1)))
        assert_refused(data, "archive.limit_exceeded")


def test_too_many_members_and_too_many_bytes_are_refused() -> None:
    parts = [(part_name("projects", number), EMPTY) for number in range(50)]
    data = Handmade(parts, {"projects": entry_of("projects", [], 50)}).sealed()
    assert code_of(data) is None
    members = 50 + 4
    assert code_of(data, limits=Limits(members=members)) is None
    assert_refused(data, "archive.limit_exceeded", limits=Limits(members=members - 1))
    assert_refused(data, "archive.limit_exceeded", limits=Limits(total_bytes=1000))
