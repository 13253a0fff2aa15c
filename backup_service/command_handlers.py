"""Which handler each message has: commands over Kafka, and what restore_service tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from backup_service.commands import (
    CREATE_BACKUP,
    DELETE_BACKUP,
    HOLD_BACKUP,
    RELEASE_BACKUP,
    RUN_RETENTION,
    DeleteBackup,
    HoldBackup,
    ReleaseBackup,
    RunRetention,
    parse_cancel_message,
    parse_create_message,
    parse_message,
    parse_of_backup,
)
from backup_service.configuration.commands import (
    CONFIGURE,
    CONFIRM,
    parse_configure,
    parse_confirm,
    read_message,
)
from backup_service.configuration.names import STANDING
from backup_service.context import BackupContext
from backup_service.handlers.apply_retention import request_retention
from backup_service.handlers.configure import configure, confirm
from backup_service.handlers.delete_backup import delete_backup
from backup_service.handlers.hold_backup import hold_backup, release_backup
from backup_service.handlers.note_operation import note_operation
from backup_service.handlers.note_rehearsal import note_rehearsal
from backup_service.handlers.note_restore import note_restore
from backup_service.handlers.note_use import USES, note_use
from backup_service.handlers.request_backup import cancel_running, request_backup
from backup_service.handlers.run_now import RUN_SCHEDULE, parse_run_now, run_now
from backup_service.operations.fold import FOLLOWED
from serving.command_topic import Handle
from serving.requester import Requester
from shared.eventstore.follower import Handle as HandleEvent
from shared.messages import CloudEvent, Issuer
from shared.messages.between import (
    CANCEL_RUNNING,
    REHEARSAL_FAILED,
    REHEARSED,
    RESTORE_COMPLETED,
)
from shared.standing.setting import StandingSetting

NoteEvent = Callable[[BackupContext, CloudEvent, Issuer], None]


def command_handlers(context: BackupContext) -> dict[str, Handle]:
    """Return what a signed command of each type does."""
    handlers: dict[str, Handle] = {
        CREATE_BACKUP: lambda data, requester: request_backup(
            context, parse_create_message(data), requester
        ),
        CANCEL_RUNNING: lambda data, requester: cancel_running(
            context, parse_cancel_message(data), requester
        ),
        HOLD_BACKUP: lambda data, requester: hold_backup(
            context, *parse_of_backup(HoldBackup, data), requester
        ),
        RELEASE_BACKUP: lambda data, requester: release_backup(
            context, *parse_of_backup(ReleaseBackup, data), requester
        ),
        DELETE_BACKUP: lambda data, requester: delete_backup(
            context, *parse_of_backup(DeleteBackup, data), requester
        ),
        RUN_RETENTION: lambda data, requester: request_retention(
            context, parse_message(RunRetention, data), requester
        ),
    }
    handlers[RUN_SCHEDULE] = lambda data, requester: run_now(
        context, parse_run_now(read_message(data)), requester
    )
    for name, model in STANDING.items():
        handlers[CONFIGURE[name]] = partial(_configure, context, model)
        handlers[CONFIRM[name]] = partial(_confirm, context, model)
    return handlers


def _configure(
    context: BackupContext, model: type[StandingSetting], data: bytes, requester: Requester
) -> None:
    # Nobody waits for the answer, and the commands behind this one would.
    configure(context, parse_configure(model, read_message(data)), requester, wait_s=0)


def _confirm(
    context: BackupContext, model: type[StandingSetting], data: bytes, requester: Requester
) -> None:
    confirm(context, parse_confirm(model, read_message(data)), requester)


# Of restore_service, whose types are followed.
HEARD: Final = frozenset({*FOLLOWED, *USES, REHEARSED, REHEARSAL_FAILED, RESTORE_COMPLETED})


def restore_event_handlers(context: BackupContext) -> Mapping[str, HandleEvent]:
    """Return what each event of restore_service does here: all are noted, some do more."""
    more: dict[str, list[NoteEvent]] = {kind: [note_use] for kind in USES}
    more |= {REHEARSED: [note_rehearsal], REHEARSAL_FAILED: [note_rehearsal]}
    more[RESTORE_COMPLETED] = [note_use, note_restore]

    def handle(event: CloudEvent, issuer: Issuer) -> None:
        # Each in a transaction of its own: what ends in between is told again, and found there.
        for note in (note_operation, *more.get(event.type, ())):
            note(context, event, issuer)

    return dict.fromkeys(HEARD, handle)
