"""What backup_service says and takes over Kafka: the models of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from uuid import UUID

from pydantic import BaseModel, create_model

from backup_service import commands as c
from backup_service.command_handlers import HEARD
from backup_service.configuration.commands import CONFIGURE, CONFIRM, ConfigureBody, ConfirmBody
from backup_service.configuration.names import STANDING
from backup_service.events import REJECTED
from backup_service.handlers.run_now import RUN_SCHEDULE, RunNow
from serving.asyncapi import Spoken, dead_letters
from shared.bodies import audit, backups, places, rehearsals, restores
from shared.bodies.base import Body, bodies_of
from shared.bodies.commands import CancelRunning
from shared.instance import events as ie
from shared.instance.reading import ATTRIBUTES
from shared.messages.between import CANCEL_RUNNING
from shared.messages.topics import (
    AUDIT,
    BACKUP_COMMANDS,
    BACKUP_EVENTS,
    INSTANCE_EVENTS,
    RESTORE_EVENTS,
)
from shared.standing.setting import StandingSetting


class HoldBackupMessage(c.HoldBackup):
    """Keep a backup from being purged, until a time or until it is released."""

    command_id: UUID
    backup_id: UUID


class ReleaseBackupMessage(c.ReleaseBackup):
    """Give one holder's hold back."""

    command_id: UUID
    backup_id: UUID


class DeleteBackupMessage(c.DeleteBackup):
    """Delete a backup for good; ``confirm`` is its id, typed once more."""

    command_id: UUID
    backup_id: UUID


class RunRetentionMessage(c.RunRetention):
    """Apply the rules of retention now."""

    command_id: UUID


def _configured(model: type[StandingSetting]) -> type[BaseModel]:
    return create_model(
        f"Configure{model.__name__}",
        __base__=ConfigureBody,
        __doc__=f"Set the {model.SHORT}; what ``value`` leaves out has its default.",
        value=(model, ...),
    )


_OF_BACKUPS: Final[Mapping[str, type[BaseModel]]] = {
    c.CREATE_BACKUP: c.CreateBackup,
    c.HOLD_BACKUP: HoldBackupMessage,
    c.RELEASE_BACKUP: ReleaseBackupMessage,
    c.DELETE_BACKUP: DeleteBackupMessage,
    c.RUN_RETENTION: RunRetentionMessage,
    CANCEL_RUNNING: CancelRunning,
    RUN_SCHEDULE: RunNow,
}
_OF_SETTINGS: Final[Mapping[str, type[BaseModel]]] = {
    CONFIGURE[name]: _configured(model) for name, model in STANDING.items()
} | {CONFIRM[name]: ConfirmBody for name in STANDING}
COMMANDS: Final = MappingProxyType({**_OF_BACKUPS, **_OF_SETTINGS})
EVENTS: Final[Mapping[str, type[Body]]] = bodies_of(backups, places)
_TOLD: Final = bodies_of(restores, rehearsals)

SPOKEN: Final = (
    Spoken(
        BACKUP_COMMANDS, "receive", "Commands of registered issuers", COMMANDS,
        answered_on=BACKUP_EVENTS, answers=(REJECTED,),
    ),
    dead_letters(BACKUP_COMMANDS),
    Spoken(BACKUP_EVENTS, "send", "What happened to backups and around them", EVENTS),
    Spoken(
        RESTORE_EVENTS, "receive", "What restores and rehearsals did with backups",
        {kind: _TOLD[kind] for kind in HEARD},
    ),
    Spoken(AUDIT, "send", "The audit trail, an entry each", bodies_of(audit)),
    Spoken(
        INSTANCE_EVENTS, "receive", "The instance's log, which is folded into the store",
        ie.EVENT_TYPES, signed=False, attributes=ATTRIBUTES,
    ),
    Spoken(
        INSTANCE_EVENTS, "send", "Standing settings; that another log is followed",
        {kind.TYPE: kind for kind in (ie.SettingSet, ie.LogAdopted)},
        signed=False, attributes=ATTRIBUTES,
    ),
)  # fmt: skip
