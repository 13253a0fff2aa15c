"""The tar layer: POSIX ustar (IEEE Std 1003.1, "pax", ustar Interchange Format), strictly.

Only regular members, no extensions, no links, no paths but those of the grammar. Writing gives
every member the same owner, mode and time, so that nothing of the machine is in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import Buffer

from shared.archive.limits import Limits
from shared.errors import ArchiveLimitExceeded, ArchiveMalformed

BLOCK_BYTES = 512
BACKUP_JSON = "backup.json"
SCHEMA_SQL = "schema.sql"
MANIFEST_JSON = "manifest.json"
MANIFEST_SIG = "manifest.sig"
_PART = re.compile(r"tables/([a-z][a-z0-9_]{0,62})/([0-9]{6})\.copy\.zst")
# The largest size that 11 octal digits hold.
MAX_MEMBER_BYTES = 8**11 - 1
MAX_PARTS = 1_000_000


@dataclass(frozen=True)
class Member:
    """A member's name and its size in bytes."""

    name: str
    size: int

    @property
    def padding(self) -> int:
        """Return how many zero bytes follow the content."""
        return -self.size % BLOCK_BYTES


def part_name(table: str, number: int) -> str:
    """Return the name of a part of ``table``. Raises ArchiveMalformed outside of the grammar."""
    name = f"tables/{table}/{number:06d}.copy.zst"
    if parse_part_name(name) is None:
        raise ArchiveMalformed(f"no member can be named {name!r}")
    return name


def parse_part_name(name: str) -> tuple[str, int] | None:
    """Return table and number of a part's name, or None when it is not one."""
    matched = _PART.fullmatch(name)
    return (matched[1], int(matched[2])) if matched else None


def encode_header(member: Member) -> bytes:
    """Return the header block of ``member``."""
    if len(member.name.encode("ascii")) > 99 or not 0 <= member.size <= MAX_MEMBER_BYTES:
        raise ArchiveMalformed(f"the member {member.name!r} does not fit into a tar header")
    fields = [
        member.name.encode("ascii").ljust(100, b"\0"),
        b"0000600\0",
        b"0000000\0",
        b"0000000\0",
        b"%011o\0" % member.size,
        b"00000000000\0",
        b" " * 8,
        b"0",
        bytes(100),
        b"ustar\x0000",
        bytes(32 + 32),
        b"0000000\0",
        b"0000000\0",
        bytes(155 + 12),
    ]
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


class Source(Protocol):
    """What the tar stream is read from: ``read`` returns fewer bytes only at the end."""

    def read(self, size: int, /) -> bytes:
        """Return exactly ``size`` bytes, fewer only at the end."""


class Sink(Protocol):
    """What the tar stream is written to."""

    def write(self, data: Buffer, /) -> object:
        """Take ``data`` whole."""


class TarReader:
    """Read members in their order; every byte of every block is accounted for."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._members = 0
        self._total = 0

    def next(self) -> Member | None:
        """Return the next member, or None at the proper end. Raises ArchiveMalformed."""
        block = self._exactly(BLOCK_BYTES)
        if not any(block):
            self._end()
            return None
        member = decode_header(block)
        self._members += 1
        self._total += member.size
        if self._members > self._limits.members:
            raise ArchiveLimitExceeded("the archive has more members than allowed")
        if self._total > self._limits.total_bytes:
            raise ArchiveLimitExceeded("the archive is larger than allowed")
        return member

    def content(self, member: Member, limit: int) -> bytes:
        """Return a member's content, which is held whole: ``limit`` bounds it."""
        check_size(member, limit)
        content = self._exactly(member.size)
        self.skip_padding(member)
        return content

    def piece(self, size: int) -> bytes:
        """Return ``size`` bytes of a member's content, for a caller who counts them.

        Behind the last one comes ``skip_padding``. Raises ArchiveMalformed.
        """
        return self._exactly(size)

    def skip_padding(self, member: Member) -> None:
        """Read the zero bytes behind a member's content."""
        if any(self._exactly(member.padding)):
            raise ArchiveMalformed("the padding of a member is not zero")

    def _exactly(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) != size:
            raise ArchiveMalformed("the archive ends inside a member")
        return data

    def _end(self) -> None:
        if any(self._exactly(BLOCK_BYTES)):
            raise ArchiveMalformed("the archive's end is not two zero blocks")
        if self._source.read(1):
            raise ArchiveMalformed("something stands behind the archive's end")


def check_size(member: Member, limit: int) -> None:
    """Raise ArchiveLimitExceeded for a member of more than ``limit`` bytes."""
    if member.size > limit:
        raise ArchiveLimitExceeded(
            f"the member {member.name} has {member.size} bytes, allowed are {limit}"
        )


def decode_header(block: bytes) -> Member:
    """Read a header block. Raises ArchiveMalformed for any but the one that we would write."""
    try:
        name = block[:100].rstrip(b"\0").decode("ascii")
        size = int(block[124:135], 8)
        member = Member(name, size)
        canonical = encode_header(member)
    except (UnicodeDecodeError, ValueError):
        raise ArchiveMalformed("a tar header is malformed") from None
    if canonical != block:
        # Links, devices, paths in the prefix, extensions, other modes: nothing but ours passes.
        raise ArchiveMalformed("a tar header is not that of a regular member of this format")
    return member
