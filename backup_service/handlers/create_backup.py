"""Make a backup: barrier, snapshot, archive, proof, BackupCreated; or nothing at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import structlog

from backup_service import events as ev
from backup_service.context import BackupContext, object_name, receipt_name
from backup_service.handlers.apply_retention import retain_after
from backup_service.handlers.finish import finish_failed
from backup_service.run import Run, Step
from backup_service.snapshot.archive import WrittenArchive, make_header, write_archive
from backup_service.snapshot.guard import hold_guard
from backup_service.snapshot.proof import prove
from backup_service.snapshot.session import Snapshot, check_tables, open_snapshot
from shared.archive.age import (
    HybridIdentity,
    Identity,
    Recipient,
    X25519Identity,
    recipient_fingerprint,
)
from shared.archive.keyfile import KeyFile
from shared.archive.manifest import BackupHeader
from shared.archive.receipt import write_receipt
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import (
    BackupFailedError,
    Cancelled,
    ConcurrencyConflict,
    NoSpace,
    SecrynError,
)
from shared.eventstore import EventMeta, NewEvent
from shared.instance.barrier import wait_for_barrier
from shared.messages.topics import BACKUP_EVENTS

log = structlog.get_logger(__name__)

WRITTEN = CrashPoint("backup.write.uncommitted")
STORED = CrashPoint("backup.write.committed")
ANNOUNCING = CrashPoint("backup.announce.uncommitted")
ANNOUNCED = CrashPoint("backup.announce.committed")


def create_backup(context: BackupContext, backup_id: str) -> None:
    """Make the requested backup. Ends in BackupCreated, BackupFailed or BackupCancelled."""
    run = _start(context, backup_id)
    if run is None:
        return
    try:
        own = _named_recipients(run)
        identity = None if own else _new_identity(context)
        recipients = own or [identity.to_recipient()] if identity else own
        run.step(Step.STORE)
        wait = bool(run.backup.facts["wait_for_restore"])
        with hold_guard(context.settings.postgres.dsn, wait=wait, look=run.look):
            _barrier(run)
            run.step(Step.SNAPSHOT)
            with open_snapshot(context.settings.postgres.dsn) as snapshot:
                check_tables(snapshot)
                header = make_header(run.id, context.settings.place, snapshot, run.started_at)
                written = _write(run, snapshot, header, recipients)
        _prove(run, written, identity)
        facts = _facts(run, header, written, identity, own)
        run.step(Step.RECEIPT)
        write_receipt(context.objects, receipt_name(backup_id), facts, context.signer)
        run.step(Step.ANNOUNCE)
        _announce(run, facts, identity, header)
    except SecrynError as error:
        _fail(run, error)
    except Exception as error:
        log.error("backup.crashed", backup_id=backup_id, exc_info=error)
        _fail(run, BackupFailedError(f"an unexpected error ({type(error).__name__})"))
    finally:
        context.progress.end(backup_id)


def _start(context: BackupContext, backup_id: str) -> Run | None:
    """Record that it begins; None when it does not wait any more: it was cancelled meanwhile."""
    with postgres_faults("starting the backup"), context.pool.connection() as conn:
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.state != "requested":
            return None
        facts = backup.facts
        meta = EventMeta(facts["requested_by"], facts["correlation_id"], backup_id)
        started = NewEvent(ev.STARTED, {"backup_id": backup_id}, BACKUP_EVENTS)
        context.history.append(conn, backup_id, backup.version, [started], meta)
        backup = context.history.load(conn, backup_id)
    context.progress.begin(backup_id)
    return Run(context, backup, datetime.now(UTC), meta)


def _named_recipients(run: Run) -> list[Recipient]:
    with postgres_faults("reading the recipients"), run.context.pool.connection() as conn:
        return run.context.recipients.of(conn, run.backup.facts["recipients"])


def _new_identity(context: BackupContext) -> HybridIdentity | X25519Identity:
    if context.settings.backup.key_type == "x25519":
        return X25519Identity.generate()
    return HybridIdentity.generate()


def _barrier(run: Run) -> None:
    context = run.context
    if not run.backup.facts["at_position"]:
        timeout_s = context.settings.backup.barrier_timeout_s
        wait_for_barrier(context.kafka, context.pool, timeout_s, context.stop)


def _write(
    run: Run, snapshot: Snapshot, header: BackupHeader, recipients: list[Recipient]
) -> WrittenArchive:
    context, name = run.context, object_name(run.id)
    _check_space(context)
    run.step(Step.WRITE)
    writer = context.objects.create(name)

    def on_progress(read_bytes: int, total_bytes: int, rows: int) -> None:
        # Others write to the same disk, and a full one takes PostgreSQL and Kafka with it.
        _check_space(context)
        run.advance(min(read_bytes, total_bytes), rows)

    try:
        written = write_archive(
            snapshot,
            writer,
            recipients,
            header,
            root=context.root,
            signer=context.signer,
            settings=context.settings.backup,
            on_progress=on_progress,
        )
        WRITTEN.reach()
        writer.commit()
    finally:
        writer.abort()
    STORED.reach()
    return written


def _check_space(context: BackupContext) -> None:
    free = context.objects.free_bytes()
    least = context.settings.backup.least_free_bytes
    if free is not None and free < least:
        raise NoSpace(f"the storage has {free} bytes free; a backup leaves at least {least}")


def _prove(run: Run, written: WrittenArchive, identity: Identity | None) -> None:
    total = written.summary.size_bytes
    run.step(Step.PROVE, total)
    prover = identity if identity is not None else written.proof_identity
    prove(run.context.objects, object_name(run.id), written.summary, prover, run.advance)


def _facts(
    run: Run,
    header: BackupHeader,
    written: WrittenArchive,
    identity: Identity | None,
    own: list[Recipient],
) -> dict[str, Any]:
    manifest, now = written.summary.manifest, datetime.now(UTC)
    recipients = own if identity is None else [identity.to_recipient()]
    fingerprints = [recipient_fingerprint(recipient.encode()) for recipient in recipients]
    return {
        "backup_id": run.backup.backup_id,
        "instance_id": str(header.instance_id),
        "environment": header.environment,
        "epoch": header.epoch,
        "cluster_id": header.cluster_id,
        "topic_id": header.topic_id,
        "offset": header.offset,
        "schema_version": header.schema_version,
        "digest": manifest.digest,
        "tables": {
            name: {"rows": entry.rows, "digest": entry.digest}
            for name, entry in manifest.tables.items()
        },
        "size_bytes": written.summary.size_bytes,
        # What a restore loads: the object is compressed, and does not tell.
        "copy_bytes": written.copy_bytes,
        "sha256": written.summary.sha256,
        "location": f"{run.context.objects.location}/{object_name(run.id)}",
        "key_fingerprint": fingerprints[0] if identity is not None else None,
        "recipient_fingerprints": fingerprints,
        "signer": manifest.signer,
        "requested_by": run.backup.facts["requested_by"],
        "reason": run.backup.facts["reason"],
        "started_at": run.started_at.isoformat(),
        "proven_at": now.isoformat(),
        "duration_s": round((now - run.started_at).total_seconds(), 3),
        "behind": bool(run.backup.facts["at_position"]),
    }


def _announce(
    run: Run, facts: dict[str, Any], identity: Identity | None, header: BackupHeader
) -> None:
    """Append BackupCreated; the key begins to wait in the same transaction."""
    context = run.context
    wait = context.keys.wait_of(run.id, context.clock.now())
    waits_until = None if identity is None else wait.expires_at.isoformat()
    created = NewEvent(ev.CREATED, facts | {"key_expires_at": waits_until}, BACKUP_EVENTS)
    with postgres_faults("announcing the backup"), context.pool.connection() as conn:
        try:
            context.history.append(conn, run.id, run.backup.version, [created], run.meta)
        except ConcurrencyConflict:
            raise Cancelled("the backup was cancelled") from None
        if identity is not None:
            key_file = KeyFile(
                identity=identity,
                backup_id=run.backup.backup_id,
                instance_id=str(header.instance_id),
                environment=header.environment,
                created_at=header.created_at.isoformat(timespec="seconds"),
                sha256=facts["sha256"],
                signer=facts["signer"],
            )
            context.keys.deposit(conn, key_file.render(), wait)
        _audit(run, conn, offset=header.offset)
        if run.backup.facts.get("trigger") is not None:
            retain_after(context, conn, run.id)
        ANNOUNCING.reach()
    ANNOUNCED.reach()
    log.info("backup.created", backup_id=run.backup.backup_id, offset=header.offset,
             size_bytes=facts["size_bytes"], duration_s=facts["duration_s"])  # fmt: skip


def _fail(run: Run, error: SecrynError) -> None:
    """Leave nothing behind, and say why."""
    fault = {"code": error.code, "message": error.message, "hint": error.advice}
    finish_failed(run.context, run.backup.backup_id, fault, run.meta)


def _audit(run: Run, conn: psycopg.Connection[Any], offset: int) -> None:
    entry = AuditEntry(
        "backup.created", "success", run.meta.actor, "backup", run.backup.backup_id,
        log_offset=offset,
    )  # fmt: skip
    run.context.audit.record(conn, entry, run.meta.correlation_id)
