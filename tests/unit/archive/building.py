"""Archives for the tests: honest ones by the real writer, and others laid together by hand."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

import zstandard

from shared.archive import members
from shared.archive.age import Identity, X25519Identity, seal
from shared.archive.copybinary import encode_stream, encode_tuple
from shared.archive.keyfile import KeyFile
from shared.archive.manifest import (
    SIGNATURE_DOMAIN,
    BackupHeader,
    ColumnEntry,
    Manifest,
    MemberEntry,
    TableEntry,
    encode_document,
)
from shared.archive.members import Member
from shared.archive.schema_sql import schema_sql
from shared.archive.verify import KEYRING, digest_form_of_key
from shared.archive.writer import ArchiveWriter
from shared.instance.digest import TableDigest, instance_digest
from shared.instance.keyring import check_value_of
from shared.messages.keys import SigningKey

Row = Sequence[bytes | None]
Rows = Mapping[str, Sequence[Row]]

SIGNER = SigningKey(bytes(range(32)))
OTHER_SIGNER = SigningKey(bytes(range(1, 33)))
IDENTITY = X25519Identity(bytes(range(2, 34)))
BACKUP_ID = UUID("11111111-1111-4111-8111-111111111111")
INSTANCE_ID = UUID("22222222-2222-4222-8222-222222222222")
HEADER = BackupHeader(
    backup_id=BACKUP_ID,
    instance_id=INSTANCE_ID,
    environment="test",
    epoch=1,
    cluster_id="cluster",
    topic_id="topic",
    offset=42,
    created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    schema_version=1,
)
_LONG_NAMES = {"timestamptz": "timestamp with time zone"}


def _columns() -> dict[str, tuple[ColumnEntry, ...]]:
    """Return the tables of schema version 1 as an archive has them."""
    script = files("shared.instance.schema").joinpath("0001_tables.sql").read_text("utf-8")
    found: dict[str, tuple[ColumnEntry, ...]] = {}
    for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\);", script, re.DOTALL):
        pairs = re.findall(r"^    (\w+) (\w+)", body, re.MULTILINE)
        found[name] = tuple(
            ColumnEntry(
                name="data_key" if (name, column) == (KEYRING, "wrapped") else column,
                type=_LONG_NAMES.get(kind, kind),
            )
            for column, kind in pairs
            if (name, column) != (KEYRING, "root_key_id")
        )
    del found["log_position"]
    return found


COLUMNS = _columns()
TABLES = tuple(COLUMNS)
# The table that the tests fill when any will do: uuid, text, text, timestamps, text.
TABLE = "projects"


def timestamp(microseconds: int = 0) -> bytes:
    return struct.pack(">q", microseconds)


def project(name: str | bytes, deleted_at: bytes | None = None, number: int = 1) -> Row:
    text = name if isinstance(name, bytes) else name.encode()
    return [number.to_bytes(16, "big"), text, b"", timestamp(), b"someone", deleted_at]


def data_key_row(data_key: bytes = bytes(32), check_value: bytes | None = None) -> Row:
    check = check_value_of(data_key) if check_value is None else check_value
    return [UUID(int=7).bytes, b"secret", b"active", data_key, check, timestamp()]


def compress(raw: bytes, level: int = 1) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(raw)


def digest_of(table: str, rows: Iterable[Row]) -> TableDigest:
    digest = TableDigest()
    for row in rows:
        encoded = encode_tuple(row)
        digest.add(digest_form_of_key(encoded) if table == KEYRING else encoded)
    return digest


def entry_of(table: str, rows: Sequence[Row], parts: int = 1) -> TableEntry:
    digest = digest_of(table, rows)
    return TableEntry(
        columns=COLUMNS.get(table, COLUMNS[TABLE]),
        rows=digest.rows,
        digest=digest.hexdigest(table),
        parts=parts,
    )


@dataclass(frozen=True)
class Built:
    """An archive and what it takes to read it."""

    data: bytes
    key: KeyFile
    manifest: Manifest


def build(
    rows: Rows | None = None,
    *,
    rows_a_part: int = 1_000_000,
    tables: Sequence[str] = TABLES,
    header: BackupHeader = HEADER,
    identity: Identity = IDENTITY,
    signer: SigningKey = SIGNER,
) -> Built:
    """Write an archive of ``rows`` with the real writer."""
    content = rows or {}
    sink = io.BytesIO()
    writer = ArchiveWriter(sink, recipients=[identity.to_recipient()], header=header)
    entries: dict[str, TableEntry] = {}
    for table in tables:
        all_rows = content.get(table, [])
        starts = range(0, max(len(all_rows), 1), rows_a_part)
        for start in starts:
            part = all_rows[start : start + rows_a_part]
            writer.add_part(table, compress(encode_stream(map(encode_tuple, part))))
        entries[table] = entry_of(table, all_rows, len(starts))
    summary = writer.finish(entries, schema_sql(entries), signer)
    key = KeyFile(
        identity,
        backup_id=str(header.backup_id),
        instance_id=str(header.instance_id),
        environment=header.environment,
        created_at=header.created_at.isoformat(),
        sha256=summary.sha256,
        signer=signer.fingerprint,
    )
    return Built(sink.getvalue(), key, summary.manifest)


@dataclass
class Handmade:
    """Members and a manifest as a hostile writer lays them: everything may be replaced.

    ``parts`` are names and stored bytes; ``blocks`` stand in the tar before the part of that
    index, as they are; ``change`` edits the manifest before it is signed.
    """

    parts: list[tuple[str, bytes]]
    tables: dict[str, TableEntry]
    backup_json: bytes = field(default_factory=lambda: encode_document(HEADER))
    schema: bytes = b"-- nothing\n"
    change: Callable[[dict[str, Any]], None] | None = None
    manifest: bytes | None = None
    signature: bytes | None = None
    blocks: dict[int, bytes] = field(default_factory=dict)
    tail: bytes = bytes(1024)

    def tar(self) -> bytes:
        stream = [member(members.BACKUP_JSON, self.backup_json)]
        for index, (name, stored) in enumerate(self.parts):
            stream += [self.blocks.get(index, b""), member(name, stored)]
        stream += [self.blocks.get(len(self.parts), b""), member(members.SCHEMA_SQL, self.schema)]
        encoded = self.manifest if self.manifest is not None else self._manifest()
        signature = self.signature or SIGNER.sign(SIGNATURE_DOMAIN + encoded)
        stream += [member(members.MANIFEST_JSON, encoded), member(members.MANIFEST_SIG, signature)]
        return b"".join([*stream, self.tail])

    def sealed(self) -> bytes:
        return seal(self.tar(), [IDENTITY.to_recipient()])

    def _manifest(self) -> bytes:
        listed = [(members.BACKUP_JSON, self.backup_json), *self.parts]
        listed.append((members.SCHEMA_SQL, self.schema))
        manifest = Manifest(
            backup=HEADER,
            members=tuple(
                MemberEntry(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
                for name, data in listed
            ),
            tables=self.tables,
            digest=instance_digest(1, {name: entry.digest for name, entry in self.tables.items()}),
            signer=SIGNER.fingerprint,
            signer_public_key=SIGNER.public.raw.hex(),
        )
        if self.change is None:
            return encode_document(manifest)
        document = manifest.model_dump(mode="json")
        self.change(document)
        return encode_json(document)


def encode_json(document: object) -> bytes:
    import json

    return json.dumps(document).encode()


def member(name: str, content: bytes) -> bytes:
    """Return a member with its header block and padding."""
    found = Member(name, len(content))
    return members.encode_header(found) + content + bytes(found.padding)


def handmade(rows: Sequence[Row] = (), stored: bytes | None = None) -> Handmade:
    """Return the parts of a sound archive with one table, to be spoilt."""
    raw = encode_stream(map(encode_tuple, rows))
    part = compress(raw) if stored is None else stored
    return Handmade([(members.part_name(TABLE, 0), part)], {TABLE: entry_of(TABLE, rows)})
