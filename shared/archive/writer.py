"""Write an archive straight into a sink: constant memory, whatever the instance's size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import Buffer

from shared.archive import members
from shared.archive.age import EncryptWriter, Identity, Recipient
from shared.archive.manifest import (
    SIGNATURE_DOMAIN,
    BackupHeader,
    Document,
    Manifest,
    MemberEntry,
    TableEntry,
    encode_document,
)
from shared.archive.members import BLOCK_BYTES, Member, Sink
from shared.errors import ArchiveMalformed
from shared.instance.digest import instance_digest
from shared.messages.keys import SigningKey

WRITE_BYTES = 1 << 20


class HashingSink:
    """Pass bytes on and know the size and SHA-256 of all of them.

    In large pieces: to hash or to write one gives the interpreter's lock away, and where readers
    are busy it comes back only milliseconds later.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self._waiting = bytearray()
        self.size_bytes = 0

    def write(self, data: Buffer, /) -> None:
        """Take ``data`` whole."""
        view = memoryview(data)
        self.size_bytes += view.nbytes
        self._waiting += view
        if len(self._waiting) >= WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Pass on what waits."""
        waiting, self._waiting = self._waiting, bytearray()
        self._hash.update(waiting)
        self._sink.write(waiting)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what was passed on, in hex."""
        return self._hash.hexdigest()


@dataclass(frozen=True)
class ArchiveSummary:
    """What was written: size and SHA-256 are those of the stored, encrypted object."""

    size_bytes: int
    sha256: str
    manifest: Manifest


class ArchiveWriter:
    """Write ``backup.json``, then parts in order, then the rest; nothing is held but entries."""

    def __init__(self, sink: Sink, *, recipients: Sequence[Recipient], header: BackupHeader):
        self._outer = HashingSink(sink)
        self._age = EncryptWriter(self._outer, recipients)
        self._header = header
        self._entries: list[MemberEntry] = []
        self._next_part: dict[str, int] = {}
        self._add(members.BACKUP_JSON, encode_document(header))

    def proof_identity(self) -> Identity:
        """Return an identity that opens this one archive, for its proof."""
        return self._age.proof_identity()

    @property
    def size_bytes(self) -> int:
        """Return how many bytes of the encrypted object were written so far."""
        return self._outer.size_bytes

    def add_part(self, table: str, compressed: Buffer) -> int:
        """Add the next part of ``table``: a whole COPY stream in a whole zstd frame.

        Returns the part's number. Parts of one table follow one another without others between.
        """
        if table in self._next_part and next(reversed(self._next_part)) != table:
            raise ArchiveMalformed(f"a part of {table} comes behind another table's")
        number = self._next_part.get(table, 0)
        self._next_part[table] = number + 1
        self._add(members.part_name(table, number), compressed)
        return number

    def finish(
        self, tables: Mapping[str, TableEntry], schema_sql: str, signer: SigningKey
    ) -> ArchiveSummary:
        """Write ``schema.sql``, the manifest and its signature, and end the file."""
        self._add(members.SCHEMA_SQL, schema_sql.encode("utf-8"))
        manifest = Manifest(
            backup=self._header,
            members=tuple(self._entries),
            tables=dict(tables),
            digest=instance_digest(
                self._header.schema_version, {name: entry.digest for name, entry in tables.items()}
            ),
            signer=signer.fingerprint,
            signer_public_key=signer.public.raw.hex(),
        )
        encoded = self._add_document(members.MANIFEST_JSON, manifest)
        self._add(members.MANIFEST_SIG, signer.sign(SIGNATURE_DOMAIN + encoded))
        self._age.write(bytes(2 * BLOCK_BYTES))
        self._age.close()
        self._outer.flush()
        return ArchiveSummary(self._outer.size_bytes, self._outer.sha256, manifest)

    def _add_document(self, name: str, document: Document) -> bytes:
        encoded = encode_document(document)
        self._add(name, encoded)
        return encoded

    def _add(self, name: str, content: Buffer) -> None:
        view = memoryview(content)
        member = Member(name, view.nbytes)
        self._age.write(members.encode_header(member))
        self._age.write(view)
        self._age.write(bytes(member.padding))
        digest = hashlib.sha256(view).hexdigest()
        self._entries.append(MemberEntry(name=name, size=view.nbytes, sha256=digest))
