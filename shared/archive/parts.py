"""A part of a table: one zstd frame (RFC 8878), made into the pieces of a COPY stream as it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard

from shared.archive.limits import Limits
from shared.archive.members import Member, TarReader, check_size
from shared.errors import ArchiveLimitExceeded, ArchiveMalformed

# What is read and made at a time. Blocks of a MiB and more the allocator maps anew each time
# (``shared.allocator``), and the kernel clears every page of them: that took longer than the
# decompression itself.
PIECE_BYTES = 1 << 18
# The longest header of a frame (RFC 8878, section 3.1.1.1, and the magic number).
_HEADER_BYTES = 18
_BLOCK_HEADER_BYTES = 3
_RUN = 1
# A compressor fills its blocks, of up to 128 KiB. Empty ones cost three bytes, and time.
BLOCK_LEAST_BYTES = 1024
SPARE_BLOCKS = 64


@dataclass(frozen=True)
class Part:
    """A part of a table: one complete binary COPY stream, decompressed, in pieces."""

    table: str
    number: int
    pieces: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Return the length of the whole stream."""
        return sum(map(len, self.pieces))

    @property
    def copy(self) -> bytes:
        """Return the whole stream in one."""
        return b"".join(self.pieces)


class PartReader:
    """Decompress one part after another; what they may grow by is counted over all of them."""

    def __init__(self, tar: TarReader, limits: Limits) -> None:
        self._tar = tar
        self._limits = limits
        self._spare_bytes = limits.expansion_spare_bytes
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=limits.part_window_bytes)

    def read(self, member: Member) -> tuple[tuple[bytes, ...], bytes]:
        """Return the pieces of the stream in ``member``, and the SHA-256 of what is stored.

        Raises ArchiveMalformed, ArchiveLimitExceeded, ArchiveDamaged.
        """
        check_size(member, self._limits.part_stored_bytes)
        frame = _Frame(self._tar, member)
        size = self._judge(member, frame.header)
        try:
            pieces = tuple(self._pieces(frame, size))
        except zstandard.ZstdError:
            raise _no_frame(member) from None
        if sum(map(len, pieces)) != size or not frame.is_whole:
            raise _no_frame(member)
        self._tar.skip_padding(member)
        return pieces, frame.sha256

    def _judge(self, member: Member, header: bytes) -> int:
        """Return the size that the frame names: it is judged before a byte of it is made."""
        if not header.startswith(zstandard.FRAME_HEADER):
            raise ArchiveMalformed(f"{member.name} is not a zstd frame")
        try:
            frame = zstandard.get_frame_parameters(header)
        except zstandard.ZstdError:
            raise ArchiveMalformed(f"{member.name} is not a zstd frame") from None
        if frame.content_size == zstandard.CONTENTSIZE_UNKNOWN or frame.dict_id:
            raise ArchiveMalformed(f"{member.name} does not name its size, or needs a dictionary")
        if (
            frame.content_size > self._limits.part_raw_bytes
            or frame.window_size > self._limits.part_window_bytes
        ):
            raise ArchiveLimitExceeded(
                f"{member.name} is larger than allowed when it is decompressed"
            )
        self._spare_bytes += self._limits.expansion * member.size - frame.content_size
        if self._spare_bytes < 0:
            raise ArchiveLimitExceeded("the parts grow more than allowed when decompressed")
        return frame.content_size

    def _pieces(self, frame: _Frame, size: int) -> Iterator[bytes]:
        """Yield ``size`` bytes, a byte more if the frame holds more than it names.

        That it asks for a byte more has the decoder go to the end of the frame, and check it.
        """
        # It asks for nothing but ``read``.
        source = cast(IO[bytes], frame)
        stream = self._decompressor.stream_reader(source, PIECE_BYTES, read_across_frames=False)
        left = size + 1
        while piece := stream.read(min(left, PIECE_BYTES)):
            left -= len(piece)
            yield piece
            if not left:
                return


class _Frame:
    """Hand out a member's content to a decoder, and know its SHA-256 and where its frame ends."""

    def __init__(self, tar: TarReader, member: Member) -> None:
        self._tar = tar
        self._left = member.size
        self._hash = hashlib.sha256()
        self.header = self._ahead = self._take(_HEADER_BYTES)
        self._end: _FrameEnd | None = None

    @property
    def is_whole(self) -> bool:
        """Tell whether the member was read, and is exactly one frame."""
        return not self._left and self._end is not None and self._end.reached

    @property
    def sha256(self) -> bytes:
        """Return the SHA-256 of the content as far as it was read."""
        return self._hash.digest()

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; nothing behind the end."""
        if self._end is None:
            self._end = _FrameEnd(self.header)
            return self._ahead
        taken = self._take(size)
        self._end.pass_over(taken)
        return taken

    def _take(self, size: int) -> bytes:
        taken = self._tar.piece(min(size, self._left))
        self._left -= len(taken)
        self._hash.update(taken)
        return taken


class _FrameEnd:
    """Find the end of a frame by the sizes of its blocks (RFC 8878, section 3.1.1)."""

    def __init__(self, header: bytes) -> None:
        frame = zstandard.get_frame_parameters(header)
        self._checksum_bytes = 4 if frame.has_checksum else 0
        self._blocks_left = frame.content_size // BLOCK_LEAST_BYTES + SPARE_BLOCKS
        # What is left of the header, of a block, or of the checksum behind the last one.
        self._skip = zstandard.frame_header_size(header)
        self._block_header = b""
        self._last = False
        self._passed = False
        self.pass_over(header)

    @property
    def reached(self) -> bool:
        """Tell whether the frame ended with the last byte that was passed over."""
        return self._last and not self._skip and not self._passed

    def pass_over(self, data: bytes) -> None:
        """Take the next bytes of the frame."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            elif self._last:
                self._passed = True
                return
            else:
                step = min(_BLOCK_HEADER_BYTES - len(self._block_header), len(data) - at)
                self._block_header += data[at : at + step]
                self._begin_block()
            at += step

    def _begin_block(self) -> None:
        if len(self._block_header) < _BLOCK_HEADER_BYTES:
            return
        self._blocks_left -= 1
        if self._blocks_left < 0:
            raise ArchiveMalformed("a part has more blocks than its content asks for")
        fields, self._block_header = int.from_bytes(self._block_header, "little"), b""
        self._last, kind, size = bool(fields & 1), (fields >> 1) & 3, fields >> 3
        # A run of one byte is stored as that byte.
        self._skip = (1 if kind == _RUN else size) + self._last * self._checksum_bytes


def _no_frame(member: Member) -> ArchiveMalformed:
    return ArchiveMalformed(f"{member.name} is not one whole zstd frame")
