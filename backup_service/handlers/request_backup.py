"""A request for a backup: stored once, answered the same each time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from backup_service import events as ev
from backup_service.commands import CreateBackup
from backup_service.context import BackupContext
from backup_service.events import stream_of
from backup_service.snapshot.guard import open_fence
from serving.repeated import check_same
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.audit import AuditEntry
from shared.bodies.commands import CancelRunning
from shared.crashpoints import CrashPoint
from shared.database import Connection, postgres_faults
from shared.errors import ConcurrencyConflict, ConflictError, RestoreInProgress
from shared.eventstore import EventMeta, NewEvent
from shared.messages.between import CANCEL_PERMISSION
from shared.messages.topics import BACKUP_EVENTS

STORED = CrashPoint("backup.request.stored")


def request_backup(
    context: BackupContext, command: CreateBackup, requester: Requester
) -> dict[str, Any]:
    """Store the request and return the backup as it stands; a repeated command changes nothing.

    Raises AccessError without the permission, ProofNeeded, CommandReused, UnavailableError.
    """
    requester.require("create")
    requester.may_name(
        command.recipients, context.clock.now(), context.settings.access.proof_max_age_s
    )
    return request_named(context, command, requester)


def request_named(
    context: BackupContext, command: CreateBackup, requester: Requester
) -> dict[str, Any]:
    """Store a request whose recipients somebody with the right to has named; as ``request_backup``.

    Raises CommandReused, RestoreInProgress, UnavailableError.
    """
    backup_id = command.backup_id
    with postgres_faults("storing the request"), context.pool.connection() as conn:
        if not context.history.exists(conn, backup_id):
            _check_fence(conn, command)
            # Where the same command came in twice at once, the other copy stored it.
            with suppress(ConcurrencyConflict), conn.transaction():
                store_request(context, conn, command, requester)
        _check_same(context, conn, command)
        shown = context.history.get(conn, backup_id)
    STORED.reach()
    return shown


def store_request(
    context: BackupContext,
    conn: Connection,
    command: CreateBackup,
    requester: Requester,
    trigger: dict[str, Any] | None = None,
) -> None:
    """Store a request in the caller's transaction; ``trigger`` says what asked if nobody did.

    Raises ConcurrencyConflict when it was stored before.
    """
    backup_id = command.backup_id
    fingerprints = context.recipients.remember(conn, command.recipients)
    data = {
        "backup_id": str(backup_id),
        "command_id": str(command.command_id),
        "instance_id": str(context.settings.place.instance_id),
        **_asked(command, fingerprints),
        "trigger": trigger,
    }
    requested = NewEvent(ev.REQUESTED, data, BACKUP_EVENTS)
    meta = EventMeta(requester.name, requester.correlation_id, str(command.command_id))
    context.history.append(conn, backup_id, 0, [requested], meta)
    entry = AuditEntry(
        "backup.create", "success", requester.name, "backup", str(backup_id),
        requester.source, message=command.reason,
    )  # fmt: skip
    context.audit.record(conn, entry, requester.correlation_id)


def _check_same(context: BackupContext, conn: Connection, command: CreateBackup) -> None:
    """Compare with what is stored, by whichever copy. Raises CommandReused."""
    first = context.store.read_stream(conn, stream_of(command.backup_id))[0]
    # Of one that was adopted nothing tells any more what its command asked for.
    if first.type != ev.ADOPTED:
        fingerprints = [recipient_fingerprint(each) for each in command.recipients]
        check_same(command.command_id, first, ev.REQUESTED, _asked(command, fingerprints))


def _asked(command: CreateBackup, fingerprints: list[str]) -> dict[str, Any]:
    """Return what a copy of the command has to ask for, too."""
    return {
        "reason": command.reason,
        "recipient_fingerprints": fingerprints,
        "at_position": command.at_position,
        "wait_for_restore": command.wait_for_restore,
    }


def _check_fence(conn: Connection, command: CreateBackup) -> None:
    """Refuse at once what could only fail later. Raises RestoreInProgress."""
    if command.wait_for_restore:
        return
    fence = open_fence(conn)
    if fence is not None:
        raise RestoreInProgress(
            f"the restore {fence} is replacing the instance",
            hint="Ask again when it is over, or ask to wait for it: `--wait-for-restore`.",
        )


def cancel_running(context: BackupContext, command: CancelRunning, requester: Requester) -> None:
    """Ask for the backup that is being made to be given up; none may be.

    Raises AccessError: this takes a permission of its own, which restore_service has.
    """
    requester.require(CANCEL_PERMISSION)
    with postgres_faults("looking for a running backup"), context.pool.connection() as conn:
        running = context.history.in_state(conn, "running")
    for backup_id in running:
        # It may have ended meanwhile, which is as well.
        with suppress(ConflictError):
            cancel_backup(context, backup_id, requester)


def cancel_backup(context: BackupContext, backup_id: str, requester: Requester) -> dict[str, Any]:
    """Ask for a backup to be given up; one that waits is cancelled at once.

    Raises BackupNotFound, ConflictError when it has ended.
    """
    meta = EventMeta(requester.name, requester.correlation_id)
    with postgres_faults("cancelling"), context.pool.connection() as conn:
        # The append lock first: a step of the backup itself must not make this fail.
        context.store.lock_appends(conn)
        backup = context.history.load(conn, backup_id)
        if backup.ended:
            raise ConflictError(f"the backup {backup_id} has ended: {backup.state}")
        fault = {"code": "cancelled", "message": f"cancelled by {requester.name}", "hint": None}
        event = (
            NewEvent(ev.CANCELLED, {"backup_id": backup_id, "error": fault}, BACKUP_EVENTS)
            if backup.state == "requested"
            else NewEvent(ev.CANCEL_REQUESTED, {"backup_id": backup_id}, BACKUP_EVENTS)
        )
        context.history.append(conn, backup_id, backup.version, [event], meta)
        context.audit.record(
            conn,
            AuditEntry("backup.cancel", "success", requester.name, "backup", backup_id,
                       requester.source),
            requester.correlation_id,
        )  # fmt: skip
        return context.history.get(conn, backup_id)
