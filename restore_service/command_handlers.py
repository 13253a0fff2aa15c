"""Which handler each command over Kafka has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from restore_service import commands as c
from restore_service.context import RestoreContext
from restore_service.handlers.approve_restore import approve
from restore_service.handlers.change_policy import change_policy
from restore_service.handlers.request_rehearsal import request_rehearsal
from restore_service.handlers.request_restore import request_restore
from restore_service.handlers.request_undo import request_undo
from restore_service.handlers.start_restore import start_restore
from serving.command_topic import Handle
from serving.requester import Requester

C = TypeVar("C", bound=BaseModel)


def command_handlers(context: RestoreContext) -> dict[str, Handle]:
    """Return what a signed command of each type does."""

    def handled(
        model: type[C], handler: Callable[[RestoreContext, C, Requester], object]
    ) -> Handle:
        def handle(data: bytes, requester: Requester) -> object:
            return handler(context, c.parse_message(model, data), requester)

        return handle

    return {
        c.RESTORE_INSTANCE: handled(c.RestoreInstance, request_restore),
        c.UNDO_RESTORE: handled(c.UndoRestore, request_undo),
        c.REHEARSE_RESTORE: handled(c.RehearseRestore, request_rehearsal),
        c.APPROVE_RESTORE: handled(c.Approve, approve),
        c.START_RESTORE: handled(c.StartRestore, start_restore),
        c.CHANGE_APPROVAL: handled(c.ChangeApproval, change_policy),
    }
