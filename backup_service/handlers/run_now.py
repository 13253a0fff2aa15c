"""One run of the schedule by hand."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from backup_service.commands import CreateBackup, Reason, parse_command
from backup_service.configuration.reading import read_configured
from backup_service.configuration.schedule import Schedule
from backup_service.context import BackupContext
from backup_service.handlers.request_backup import request_named
from backup_service.schedule.taken import may_encrypt_to
from serving.requester import Requester
from shared.database import postgres_faults

RUN_SCHEDULE: Final = "com.secryn.backup.run_schedule.v1"


class RunNow(BaseModel):
    """Make one backup as the schedule would: for whom it names, if somebody answers for them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command_id: UUID
    reason: Reason = "the schedule, by hand"


def parse_run_now(document: Any) -> RunNow:
    """Read the command from JSON. Raises UsageError."""
    return parse_command(RunNow, document)


def run_now(context: BackupContext, command: RunNow, requester: Requester) -> dict[str, Any]:
    """Ask for the backup and return it; a repeated command changes nothing.

    Whoever may make backups may have one made for whom the schedule names: that was decided by
    one who may name them. Raises AccessError, UnavailableError.
    """
    requester.require("create")
    with postgres_faults("reading the schedule"), context.pool.connection() as conn:
        schedule = read_configured(conn, context.store, Schedule)
    create = CreateBackup(
        command_id=command.command_id,
        reason=command.reason,
        recipients=may_encrypt_to(schedule),
        wait_for_restore=True,
    )
    return request_named(context, create, requester)
