"""Delete one backup by hand: its id typed once more, and nothing that somebody still needs."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from backup_service import events as ev
from backup_service.commands import DeleteBackup
from backup_service.context import BackupContext
from backup_service.handlers.purge_backup import Ground, purge_backup
from serving.repeated import check_same
from serving.requester import Requester
from shared.database import postgres_faults
from shared.errors import NotConfirmed

_EVENTS: Final = UUID("8f0f2d0b-9f7e-5e6c-a9a2-2f4f6e0b7d35")


def delete_backup(
    context: BackupContext, backup_id: str, command: DeleteBackup, requester: Requester
) -> dict[str, Any]:
    """Purge a backup and return it as it stands; a repeated command changes nothing.

    Where the storage refuses, the backup stays as it is, ``purge`` says why, and it is tried again.

    Raises AccessError, NotConfirmed, CommandReused, and what keeps a backup: see ``purge_backup``.
    """
    requester.require("delete")
    if command.confirm != backup_id:
        raise NotConfirmed(f"the backup {backup_id} is to be deleted, another id was typed")
    event_id = uuid5(_EVENTS, str(command.command_id))
    with postgres_faults("looking for the backup"), context.pool.connection() as conn:
        # Raises BackupNotFound before anything else is said.
        context.history.load(conn, backup_id)
        begun = context.store.find(conn, event_id)
    if begun is None:
        ground = Ground(
            "by_hand", None, command.reason, requester.name, requester.source,
            requester.correlation_id, event_id,
        )  # fmt: skip
        purge_backup(context, backup_id, ground)
    else:
        asked = {"backup_id": backup_id, "reason": command.reason}
        check_same(command.command_id, begun, ev.PURGE_STARTED, asked)
    with postgres_faults("reading the history"), context.pool.connection() as conn:
        return context.history.get(conn, backup_id)
