"""From a snapshot to a stored archive: one pass, constant memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from backup_service.settings import BackupSettings
from backup_service.snapshot.copy_out import SnapshotReaders
from backup_service.snapshot.plan import archive_columns, plan_reads
from backup_service.snapshot.session import Snapshot
from shared.archive.age import Identity, Recipient
from shared.archive.manifest import BackupHeader, ColumnEntry, TableEntry
from shared.archive.schema_sql import schema_sql
from shared.archive.writer import ArchiveSummary, ArchiveWriter
from shared.instance.digest import TableDigest
from shared.instance.keyring import RootKey
from shared.messages import SigningKey
from shared.settings import PlaceSettings
from shared.storage import ObjectWriter

# (bytes read so far, bytes to read about, rows so far); it may raise to end the work.
OnProgress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class WrittenArchive:
    """What was written, of how much COPY data, and an identity that opens it for the proof."""

    summary: ArchiveSummary
    copy_bytes: int
    proof_identity: Identity


def write_archive(
    snapshot: Snapshot,
    sink: ObjectWriter,
    recipients: list[Recipient],
    header: BackupHeader,
    *,
    root: RootKey,
    signer: SigningKey,
    settings: BackupSettings,
    on_progress: OnProgress,
) -> WrittenArchive:
    """Stream every table of the snapshot into ``sink`` as an archive; commit is the caller's."""
    writer = ArchiveWriter(sink, recipients=recipients, header=header)
    with snapshot.reader() as conn:
        ranges, total_bytes = plan_reads(conn, snapshot.tables)
    digests = {table.name: TableDigest() for table in snapshot.tables}
    parts = dict.fromkeys(digests, 0)
    read_bytes = rows = 0
    readers = SnapshotReaders(
        snapshot,
        ranges,
        root,
        readers=settings.readers,
        part_bytes=settings.part_bytes,
        zstd_level=settings.zstd_level,
    )
    with readers.running() as stream:
        for part in stream:
            writer.add_part(part.table, part.data)
            digests[part.table].merge(part.digest)
            parts[part.table] += 1
            read_bytes += part.raw_bytes
            rows += part.digest.rows
            on_progress(read_bytes, total_bytes, rows)
    tables = {
        table.name: TableEntry(
            columns=tuple(
                ColumnEntry(name=column.name, type=column.type) for column in archive_columns(table)
            ),
            rows=digests[table.name].rows,
            digest=digests[table.name].hexdigest(table.name),
            parts=parts[table.name],
        )
        for table in snapshot.tables
    }
    summary = writer.finish(tables, schema_sql(tables), signer)
    return WrittenArchive(summary, read_bytes, writer.proof_identity())


def make_header(
    backup_id: UUID, place: PlaceSettings, snapshot: Snapshot, created_at: datetime
) -> BackupHeader:
    """Return what the archive says of itself first."""
    return BackupHeader(
        backup_id=backup_id,
        instance_id=place.instance_id,
        environment=place.environment,
        epoch=snapshot.position.epoch,
        cluster_id=snapshot.position.cluster_id or "",
        topic_id=snapshot.position.topic_id or "",
        offset=snapshot.position.position,
        created_at=created_at,
        schema_version=snapshot.schema_version,
    )
