"""``backup.json`` and ``manifest.json``: what the archive says of itself (FORMAT.md)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, FailFast, Field, ValidationError

from shared.errors import ArchiveMalformed, FormatTooNew

FORMAT_NAME: Literal["secryn-backup"] = "secryn-backup"
FORMAT_VERSION = 1
SIGNATURE_DOMAIN = b"secryn manifest v1\0"
SIGNATURE_BYTES = 64

Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TableName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Short = Annotated[str, Field(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Document(BaseModel):
    """A JSON document of the archive: closed, typed, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class BackupHeader(Document):
    """``backup.json``: which backup this is. ``offset`` is S: the state is fold(log[0 .. S))."""

    format: Literal["secryn-backup"] = FORMAT_NAME
    format_version: Annotated[int, Field(ge=1)] = FORMAT_VERSION
    backup_id: UUID
    instance_id: UUID
    environment: Short
    epoch: Count
    cluster_id: Short
    topic_id: Short
    offset: Count
    created_at: AwareDatetime
    schema_version: Annotated[int, Field(ge=1)]


class ColumnEntry(Document):
    """A column of a table as it stands in the archive."""

    name: Short
    type: Short


class TableEntry(Document):
    """A table: its columns in the order of its tuples, its rows, digest and parts."""

    columns: Annotated[tuple[ColumnEntry, ...], FailFast()]
    rows: Count
    digest: Hex32
    parts: Annotated[int, Field(ge=1)]


class MemberEntry(Document):
    """A member that stands before the manifest."""

    name: Short
    size: Count
    sha256: Hex32


class Manifest(Document):
    """``manifest.json``: everything that the archive must be, signed."""

    backup: BackupHeader
    members: Annotated[tuple[MemberEntry, ...], FailFast()]
    tables: dict[TableName, TableEntry]
    digest: Hex32
    signer: Short
    signer_public_key: Hex32


_FAULTS_NAMED = 8
_NAME_SHOWN = 64

D = TypeVar("D", bound=Document)


def encode_document(document: Document) -> bytes:
    """Return a document as UTF-8 JSON."""
    return document.model_dump_json().encode("utf-8")


def decode_document(model: type[D], data: bytes, name: str) -> D:
    """Read a document. Raises ArchiveMalformed, naming where and why."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise ArchiveMalformed(f"{name} is malformed: {_faults(error)}") from None


def count_values(data: bytes) -> int:
    """Return an upper bound of the values in a JSON document, without reading it as one."""
    return 1 + data.count(b",") + data.count(b"[") + data.count(b"{")


def _faults(error: ValidationError) -> str:
    # Whoever wrote the document chose how many faults there are, and how long their names.
    if error.error_count() > _FAULTS_NAMED:
        return f"{error.error_count()} faults"
    return "; ".join(
        f"{'.'.join(str(part)[:_NAME_SHOWN] for part in fault['loc'])}: {fault['type']}"
        for fault in error.errors(include_input=False, include_url=False, include_context=False)
    )


def decode_header(data: bytes) -> BackupHeader:
    """Read ``backup.json``; a newer format is told apart before anything else is judged.

    Raises FormatTooNew, ArchiveMalformed.
    """
    version = _format_version(data)
    if version is not None and version > FORMAT_VERSION:
        raise FormatTooNew(
            f"the archive has format {version}; this software reads up to {FORMAT_VERSION}"
        )
    return decode_document(BackupHeader, data, "backup.json")


class _AnyHeader(BaseModel):
    format: Literal["secryn-backup"]
    format_version: int


def _format_version(data: bytes) -> int | None:
    try:
        return _AnyHeader.model_validate_json(data).format_version
    except ValidationError:
        return None
