"""Read an archive: trust nothing, hold one part at a time, check everything on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import ne

from shared.archive import age, members
from shared.archive.age import DecryptReader, Identity
from shared.archive.limits import DEFAULT_LIMITS, Limits
from shared.archive.manifest import (
    SIGNATURE_BYTES,
    SIGNATURE_DOMAIN,
    BackupHeader,
    Manifest,
    count_values,
    decode_document,
    decode_header,
)
from shared.archive.members import Member, TarReader, parse_part_name
from shared.archive.parts import PIECE_BYTES, Part, PartReader
from shared.errors import (
    ArchiveLimitExceeded,
    ArchiveMalformed,
    ManifestMismatch,
    SignatureMissingOrBad,
)
from shared.messages.keys import PublicKey

__all__ = ["ArchiveReader", "Part", "open_archive", "read_ahead"]


class HashingSource:
    """Hand bytes on and know the size and SHA-256 of all of them, a large piece at a time."""

    def __init__(self, source: age.header.Source) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._piece = memoryview(b"")
        self.size_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes; empty at the end."""
        if not self._piece:
            data = self._source.read(PIECE_BYTES) or b""
            self._hash.update(data)
            self.size_bytes += len(data)
            self._piece = memoryview(data)
        taken = bytes(self._piece if size < 0 else self._piece[:size])
        self._piece = self._piece[len(taken) :]
        return taken

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was read, in hex."""
        return self._hash.hexdigest()


class ArchiveReader:
    """An archive whose header was read; iterate ``parts`` to its end, then ask for the rest.

    ``manifest``, ``sha256`` and ``size_bytes`` hold what is known once ``parts`` is exhausted:
    by then the member hashes, the signature and the end of the file have been checked. Whether
    the signer is to be trusted is not judged here.
    """

    def __init__(
        self, source: age.header.Source, identities: Sequence[Identity], limits: Limits
    ) -> None:
        self._limits = limits
        self._outer = HashingSource(source)
        self._tar = TarReader(
            DecryptReader(
                self._outer,
                identities,
                max_header_bytes=limits.header_bytes,
                max_stanzas=limits.header_stanzas,
            ),
            limits,
        )
        # Name, size and SHA-256 of every member: the leanest form, for there may be many.
        self._seen: list[tuple[str, int, bytes]] = []
        self._parts: dict[str, int] = {}
        self._manifest: Manifest | None = None
        self._part_reader = PartReader(self._tar, limits)
        first = self._required(members.BACKUP_JSON, self._tar.next())
        self.header: BackupHeader = decode_header(self._take(first, limits.backup_json_bytes))

    @property
    def manifest(self) -> Manifest:
        """Return the checked manifest. Raises ArchiveMalformed before the end was read."""
        if self._manifest is None:
            raise ArchiveMalformed("the archive was not read to its end")
        return self._manifest

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the encrypted object as far as it was read."""
        return self._outer.sha256

    @property
    def size_bytes(self) -> int:
        """Return how many bytes of the encrypted object were read."""
        return self._outer.size_bytes

    def parts(self) -> Iterator[Part]:
        """Yield every part in order, then read and check the end of the archive."""
        while True:
            member = self._tar.next()
            named = None if member is None else parse_part_name(member.name)
            if member is None or named is None:
                break
            yield self._part(member, *named)
        self._finish(member)

    def _part(self, member: Member, table: str, number: int) -> Part:
        last = next(reversed(self._parts), None)
        if number != self._parts.get(table, 0) or (table in self._parts and table != last):
            raise ArchiveMalformed(f"the part {member.name} is out of order")
        self._parts[table] = number + 1
        pieces, sha256 = self._part_reader.read(member)
        self._seen.append((member.name, member.size, sha256))
        return Part(table, number, pieces)

    def _finish(self, member: Member | None) -> None:
        schema = self._required(members.SCHEMA_SQL, member)
        self._take(schema, self._limits.schema_sql_bytes)
        expected = list(self._seen)
        found = self._required(members.MANIFEST_JSON, self._tar.next())
        encoded = self._take(found, self._limits.manifest_bytes)
        if count_values(encoded) > 4 * len(expected) + self._limits.manifest_values:
            raise ArchiveLimitExceeded("the manifest holds more than its members ask for")
        manifest = decode_document(Manifest, encoded, members.MANIFEST_JSON)
        signed = self._required(members.MANIFEST_SIG, self._tar.next())
        signature = self._take(signed, SIGNATURE_BYTES)
        if self._tar.next() is not None:
            raise ArchiveMalformed("a member follows the signature")
        self._check_signature(manifest, encoded, signature)
        self._check_manifest(manifest, expected)
        self._manifest = manifest

    def _check_signature(self, manifest: Manifest, encoded: bytes, signature: bytes) -> None:
        key = PublicKey.from_hex(manifest.signer_public_key)
        if key.fingerprint != manifest.signer or not key.verifies(
            signature, SIGNATURE_DOMAIN + encoded
        ):
            raise SignatureMissingOrBad("the manifest is not signed by the signer that it names")

    def _check_manifest(
        self, manifest: Manifest, expected: Sequence[tuple[str, int, bytes]]
    ) -> None:
        if manifest.backup != self.header:
            raise ManifestMismatch("the manifest names another backup than backup.json")
        listed = (
            (entry.name, entry.size, bytes.fromhex(entry.sha256)) for entry in manifest.members
        )
        if len(manifest.members) != len(expected) or any(map(ne, listed, expected)):
            raise ManifestMismatch("the members are not those of the manifest")
        if {name: entry.parts for name, entry in manifest.tables.items()} != self._parts:
            raise ManifestMismatch("the tables are not those of the manifest")

    def _required(self, name: str, member: Member | None) -> Member:
        if member is None or member.name != name:
            found = "the end" if member is None else repr(member.name)
            raise ArchiveMalformed(f"{found} stands where {name} must be")
        return member

    def _take(self, member: Member, limit: int) -> bytes:
        content = self._tar.content(member, limit)
        self._seen.append((member.name, member.size, hashlib.sha256(content).digest()))
        return content


def read_ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """Yield ``parts``; while one is worked on, a thread makes the next: two are held at a time.

    Raises what ``parts`` raises.
    """
    with ThreadPoolExecutor(1, "archive-reader") as reader:
        coming = reader.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield part


def open_archive(
    source: age.header.Source, identities: Sequence[Identity], limits: Limits = DEFAULT_LIMITS
) -> ArchiveReader:
    """Open an archive and read its header.

    ``source.read(n)`` returns up to n bytes. Raises NotAnAgeFile, AgeHeaderInvalid,
    WrongKeyOrHeader, ArchiveDamaged, FormatTooNew, ArchiveMalformed.
    """
    return ArchiveReader(source, identities, limits)
