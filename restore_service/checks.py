"""Everything that is checked before anything is touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import psycopg

from restore_service.commands import ArchiveTask, DropStray, ReapplyVoided, UndoRestore
from restore_service.context import RestoreContext
from restore_service.dependents import check_dependents
from restore_service.rights import check_defaults
from restore_service.staging import INSTANCE, become_owner
from restore_service.uploads import open_upload, uploaded_bytes, uploaded_sha256
from shared import target
from shared.archive.keyfile import KeyFile
from shared.archive.manifest import Manifest
from shared.archive.reader import ArchiveReader, Part, open_archive
from shared.archive.trust import check_trust
from shared.backupuse import using_backup
from shared.database import Connection
from shared.errors import (
    AccessError,
    AnotherInstance,
    BackupNotFound,
    ManifestMismatch,
    ObjectNotFound,
    SchemaTooNew,
)
from shared.instance.migrate import newest_version, tables_of_version
from shared.storage import ObjectReader


@dataclass(frozen=True)
class CheckedArchive:
    """An archive that may be restored: what it says of itself, signed, and what was found."""

    manifest: Manifest
    facts: dict[str, Any]


def check_target(
    context: RestoreContext, command: ArchiveTask | UndoRestore | ReapplyVoided | DropStray
) -> None:
    """Compare the named target with this place. Raises TargetMismatch."""
    target.check_target(context.settings.place, command.target_instance_id, command.environment)


def check_source(context: RestoreContext, command: ArchiveTask) -> str | None:
    """Return the SHA-256 that an upload arrived with; None for a backup that is in the storage.

    Raises BackupNotFound.
    """
    try:
        if command.upload_id is not None:
            return uploaded_sha256(context.uploads, command.upload_id)
        context.backups.stat(f"{command.backup_id}.age")
    except ObjectNotFound:
        named = command.backup_id or command.upload_id
        raise BackupNotFound(f"there is no backup or upload {named}") from None
    return None


def source_bytes(context: RestoreContext, command: ArchiveTask) -> int:
    """Return the size of the archive that the command names. Raises BackupNotFound."""
    try:
        if command.upload_id is not None:
            return uploaded_bytes(context.uploads, command.upload_id)
        return context.backups.stat(f"{command.backup_id}.age").size_bytes
    except ObjectNotFound:
        named = command.backup_id or command.upload_id
        raise BackupNotFound(f"there is no backup or upload {named}") from None


def open_source(
    context: RestoreContext, command: ArchiveTask
) -> AbstractContextManager[ObjectReader]:
    """Open the archive that the command names. Raises BackupNotFound, ObjectNotFound."""
    if command.upload_id is not None:
        return open_upload(context.uploads, command.upload_id)

    @contextmanager
    def backup() -> Iterator[ObjectReader]:
        try:
            opened = context.backups.open(f"{command.backup_id}.age")
            with opened as reader:
                yield reader
        except ObjectNotFound:
            raise BackupNotFound(f"the storage has no backup {command.backup_id}") from None

    return backup()


def using_source(context: RestoreContext, command: ArchiveTask) -> AbstractContextManager[None]:
    """Keep a stored backup from being purged, from its check to the last byte that is loaded."""
    if command.backup_id is None:
        return nullcontext()
    return using_backup(context.settings.postgres.dsn, command.backup_id)


@contextmanager
def opened_archive(
    context: RestoreContext, command: ArchiveTask, key: KeyFile
) -> Iterator[ArchiveReader]:
    """Open the archive that the command names, which must be of the instance that it names.

    Nothing else is judged yet: that takes its end. Raises the ArchiveErrors that a header can
    have, AnotherInstance, BackupNotFound.
    """
    with open_source(context, command) as source:
        archive = open_archive(source, [key.identity])
        _check_origin(context, command, archive)
        yield archive


def check_archive(
    context: RestoreContext,
    command: ArchiveTask,
    key: KeyFile,
    on_progress: Callable[[int], None],
    on_part: Callable[[Part], None],
) -> CheckedArchive:
    """Read the archive to its last byte and judge it; nothing of it is stored here.

    ``on_part`` gets every part before the archive is judged: it is not to be trusted yet.
    Raises the ArchiveErrors (wrong key, damage, format, schema, signature, trust, content),
    AnotherInstance, BackupNotFound.
    """
    with opened_archive(context, command, key) as archive:
        for part in archive.parts():
            on_part(part)
            on_progress(archive.size_bytes)
        return judge_archive(context, command, key, archive)


def judge_archive(
    context: RestoreContext, command: ArchiveTask, key: KeyFile, archive: ArchiveReader
) -> CheckedArchive:
    """Judge an archive that was read to its end.

    Raises ArchiveAltered (the key file names another), SignerUntrusted, ManifestMismatch.
    """
    manifest = archive.manifest
    trusted_by = check_trust(
        manifest, archive.sha256, key, context.trusted_signers, command.trust_signer
    )
    known = tables_of_version(archive.header.schema_version)
    if set(manifest.tables) != known:
        raise ManifestMismatch("the archive's tables are not those of its schema version")
    header = archive.header
    facts = {
        "backup_id": str(header.backup_id),
        "source_instance_id": str(header.instance_id),
        "source_environment": header.environment,
        "source_epoch": header.epoch,
        "offset": header.offset,
        "created_at": header.created_at.isoformat(),
        "schema_version": header.schema_version,
        "digest": manifest.digest,
        "rows": sum(entry.rows for entry in manifest.tables.values()),
        "sha256": archive.sha256,
        "size_bytes": archive.size_bytes,
        "signer": manifest.signer,
        "trusted_by": trusted_by,
        "cluster_id": header.cluster_id,
        "topic_id": header.topic_id,
    }
    return CheckedArchive(manifest, facts)


def _check_origin(context: RestoreContext, command: ArchiveTask, archive: ArchiveReader) -> None:
    header = archive.header
    if header.schema_version > newest_version():
        raise SchemaTooNew(
            f"the archive has schema version {header.schema_version}, known is {newest_version()}"
        )
    named = command.source_instance_id or context.settings.place.instance_id
    if header.instance_id != named:
        raise AnotherInstance(f"the archive is of the instance {header.instance_id}")
    if command.backup_id is not None and header.backup_id != command.backup_id:
        raise ManifestMismatch("the stored object is another backup than its name says")


def check_store(conn: Connection) -> None:
    """Check what a restore needs of the store.

    Raises DependentObjects, AccessError when sessions cannot be seen or ended, the owner not taken
    on, or default privileges not given again.
    """
    check_dependents(conn, INSTANCE)
    check_rights(conn)


def check_rights(conn: Connection) -> None:
    """Check what a restore, and a rehearsal, must be allowed to do.

    Raises AccessError when sessions cannot be seen or ended, the owner not taken on, or default
    privileges not given again.
    """
    # Without the second it would not see how old the transactions of others are, and wait for none.
    for right, what in (("pg_signal_backend", "end"), ("pg_read_all_stats", "see")):
        row = conn.execute("SELECT pg_has_role(%s, 'USAGE')", (right,)).fetchone()
        if row is None or not row[0]:
            raise AccessError(
                f"the restore's role may not {what} the sessions of others",
                hint=f"Run as an administrator: GRANT {right} TO the role of restore_service.",
            )
    try:
        with conn.transaction(force_rollback=True):
            become_owner(conn)
    except psycopg.errors.InsufficientPrivilege:
        raise AccessError(
            "the restore's role may not act as the owner of the store",
            hint="Run as an administrator: GRANT the schema's owner TO the role of restore_service.",
        ) from None
    check_defaults(conn, INSTANCE)
