"""A request for a rehearsal: checked and stored as one for a restore is, in a stream of its own."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from restore_service.checks import check_source, check_target
from restore_service.commands import RehearsalTask, RehearseRestore
from restore_service.context import AcceptedRehearsal, RestoreContext
from restore_service.rehearsal import events as ev
from restore_service.rehearsal.events import stream_of
from serving.repeated import check_same
from serving.requester import Requester
from shared.archive.age import recipient_fingerprint
from shared.audit import AuditEntry
from shared.crashpoints import CrashPoint
from shared.database import Connection
from shared.errors import ConcurrencyConflict, ConflictError, RehearsalInProgress
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS

STORED = CrashPoint("rehearsal.request.stored")


def request_rehearsal(
    context: RestoreContext, command: RehearseRestore, requester: Requester
) -> dict[str, Any]:
    """Store the request and return the rehearsal as it stands; a repeated command changes nothing.

    Raises AccessError, TargetMismatch, SealedKeyRefused, KeyMalformed, BackupNotFound,
    RehearsalInProgress, CommandReused.
    """
    requester.require("restore")
    rehearsal_id = str(command.rehearsal_id)
    with context.transaction("looking for the rehearsal") as conn:
        if context.rehearsals.exists(conn, rehearsal_id):
            return _same(context, conn, command)
    check_target(context, command)
    upload_sha256 = check_source(context, command)
    accepted = AcceptedRehearsal(command, context.recipients.unseal(command, upload_sha256))
    with context.transaction("storing the request") as conn:
        store_request(context, conn, accepted, requester)
        # By whichever copy: two may have come in at once.
        shown = _same(context, conn, command)
    STORED.reach()
    return shown


def _same(context: RestoreContext, conn: Connection, command: RehearseRestore) -> dict[str, Any]:
    """Return the rehearsal of the command. Raises CommandReused where it is another command's."""
    rehearsal_id = str(command.rehearsal_id)
    first = context.store.read_stream(conn, stream_of(rehearsal_id))[0]
    check_same(command.command_id, first, ev.REQUESTED, _asked(command))
    return context.rehearsals.get(conn, rehearsal_id)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def store_request(
    context: RestoreContext,
    conn: Connection,
    accepted: AcceptedRehearsal,
    requester: Requester,
) -> dict[str, Any]:
    """Store a request that was checked, in the caller's transaction; return the rehearsal.

    Raises RehearsalInProgress.
    """
    command, rehearsal_id = accepted.command, str(accepted.command.rehearsal_id)
    requested = NewEvent(ev.REQUESTED, _facts(context, accepted), RESTORE_EVENTS)
    meta = EventMeta(requester.name, requester.correlation_id, str(command.command_id))
    entry = AuditEntry(
        "restore.rehearse", "success", requester.name, "rehearsal", rehearsal_id,
        requester.source, message=command.reason,
        details={"requested": True, "trust_signer": command.trust_signer},
    )  # fmt: skip
    context.store.lock_appends(conn)
    check_none_rehearses(context, conn, rehearsal_id)
    # Where the same command came in twice at once, the other copy stored it.
    with suppress(ConcurrencyConflict), conn.transaction():
        context.rehearsals.append(conn, rehearsal_id, 0, [requested], meta)
        context.audit.record(conn, entry, requester.correlation_id)
        # In memory before it can be seen as requested: the worker finds the key.
        context.to_rehearse[rehearsal_id] = accepted
    return context.rehearsals.get(conn, rehearsal_id)


def check_none_rehearses(
    context: RestoreContext, conn: Connection, rehearsal_id: str | None = None
) -> None:
    """Raise RehearsalInProgress while a rehearsal, or another than that one, has not ended."""
    running = context.rehearsals.open_ids(conn)
    if running and running != [rehearsal_id]:
        raise RehearsalInProgress(f"the rehearsal {running[0]} is not over")


def _facts(context: RestoreContext, accepted: AcceptedRehearsal) -> dict[str, Any]:
    command, recipient = accepted.command, accepted.key.identity.to_recipient()
    return {
        "rehearsal_id": str(command.rehearsal_id),
        "command_id": str(command.command_id),
        **_asked(command),
        "key_fingerprint": recipient_fingerprint(recipient.encode()),
        "runner": context.runner,
    }


def _asked(command: RehearsalTask) -> dict[str, Any]:
    """Return what a copy of the command has to ask for, too."""
    return {
        "target_instance_id": str(command.target_instance_id),
        "backup_id": _text(command.backup_id),
        "upload_id": _text(command.upload_id),
        "next_backup_id": _text(command.next_backup_id),
        "roll_forward": _text(command.roll_forward),
        "fold_log": command.fold_log,
        "reason": command.reason,
    }


def cancel_rehearsal(
    context: RestoreContext, rehearsal_id: str, requester: Requester
) -> dict[str, Any]:
    """Ask for a rehearsal to be given up. Raises RehearsalNotFound, ConflictError when it ended."""
    requester.require("restore")
    meta = EventMeta(requester.name, requester.correlation_id)
    with context.transaction("cancelling") as conn:
        # The append lock first: a step of the rehearsal itself must not make this fail.
        context.store.lock_appends(conn)
        rehearsal = context.rehearsals.load(conn, rehearsal_id)
        if rehearsal.ended:
            raise ConflictError(f"the rehearsal {rehearsal_id} has ended: {rehearsal.state}")
        event = NewEvent(ev.CANCEL_REQUESTED, {"rehearsal_id": rehearsal_id}, RESTORE_EVENTS)
        context.rehearsals.append(conn, rehearsal_id, rehearsal.version, [event], meta)
        entry = AuditEntry(
            "restore.rehearse_cancel", "success", requester.name, "rehearsal", rehearsal_id,
            requester.source,
        )  # fmt: skip
        context.audit.record(conn, entry, requester.correlation_id)
        return context.rehearsals.get(conn, rehearsal_id)
