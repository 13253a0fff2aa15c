"""What restore_service says and takes over Kafka: the models of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from restore_service import commands as c
from restore_service.events import REJECTED
from serving.asyncapi import Spoken, dead_letters
from shared.bodies import audit, rehearsals, restores
from shared.bodies.base import Body, bodies_of
from shared.bodies.commands import CancelRunning
from shared.instance import events as ie
from shared.instance.reading import ATTRIBUTES
from shared.messages.between import CANCEL_RUNNING
from shared.messages.topics import (
    AUDIT,
    BACKUP_COMMANDS,
    INSTANCE_EVENTS,
    RESTORE_COMMANDS,
    RESTORE_EVENTS,
)

COMMANDS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
    {
        c.RESTORE_INSTANCE: c.RestoreInstance,
        c.UNDO_RESTORE: c.UndoRestore,
        c.REHEARSE_RESTORE: c.RehearseRestore,
        c.APPROVE_RESTORE: c.Approve,
        c.START_RESTORE: c.StartRestore,
        c.CHANGE_APPROVAL: c.ChangeApproval,
    }
)
EVENTS: Final[Mapping[str, type[Body]]] = bodies_of(restores, rehearsals)

SPOKEN: Final = (
    Spoken(
        RESTORE_COMMANDS, "receive", "Commands of registered issuers", COMMANDS,
        answered_on=RESTORE_EVENTS, answers=(REJECTED,),
    ),
    dead_letters(RESTORE_COMMANDS),
    Spoken(RESTORE_EVENTS, "send", "What happened to restores and rehearsals", EVENTS),
    Spoken(
        BACKUP_COMMANDS, "send", "A running backup that is in the way of a restore",
        {CANCEL_RUNNING: CancelRunning},
    ),
    Spoken(AUDIT, "send", "The audit trail, an entry each", bodies_of(audit)),
    Spoken(
        INSTANCE_EVENTS, "receive", "The instance's log, along which is rolled forward",
        ie.EVENT_TYPES, signed=False, attributes=ATTRIBUTES,
    ),
    Spoken(
        INSTANCE_EVENTS, "send",
        "The fence of a restore, what it revokes, and what is appended again",
        ie.EVENT_TYPES, signed=False, attributes=ATTRIBUTES,
    ),
)  # fmt: skip
