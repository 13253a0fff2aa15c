"""What was decided about ticks and about changes: one stream each, every decision one append.

Two leaders that overlap read the same version, and one of them appends. The request for the backup
is in the same transaction: a tick that was taken has its backup, whatever dies then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from backup_service import events as ev
from backup_service.commands import CreateBackup
from backup_service.configuration.reading import Configured, Origin
from backup_service.configuration.schedule import Schedule
from backup_service.context import BackupContext
from shared.database import Connection

_COMMANDS: Final = UUID("6a0b0f2c-8a53-5c1f-9b8a-2d7e4f1c6b05")


@dataclass(frozen=True)
class Taken:
    """The last decision about a tick. Every tick up to ``behind`` was decided.

    ``era`` counts how often the clock was set back: a tick that comes again is another one then.
    """

    version: int = 0
    behind: datetime | None = None
    era: int = 0
    configuration: str | None = None
    outcome: str | None = None
    tick: datetime | None = None
    attempt: int = 0
    backup_id: str | None = None

    def as_json(self) -> dict[str, Any] | None:
        """Return what the interfaces show."""
        if self.tick is None:
            return None
        return {
            "tick": self.tick.isoformat(),
            "outcome": self.outcome,
            "attempt": self.attempt,
            "backup_id": self.backup_id,
        }


def read_taken(context: BackupContext, conn: Connection) -> Taken:
    """Return the last decision about a tick."""
    last = context.store.last(conn, ev.TICKS_STREAM)
    if last is None:
        return Taken()
    data = last.data
    tick = data.get("tick")
    return Taken(
        version=last.version,
        behind=datetime.fromisoformat(data["behind"]),
        era=data["era"],
        configuration=data["configuration"],
        outcome=data.get("outcome"),
        tick=None if tick is None else datetime.fromisoformat(tick),
        attempt=data.get("attempt", 0),
        backup_id=data.get("backup_id"),
    )


def configuration_of(configured: Configured[Schedule]) -> str:
    """Return what tells one decision about the schedule from another."""
    return f"{configured.epoch}.{configured.version}"


def decided_until(configured: Configured[Schedule], taken: Taken) -> datetime | None:
    """Return up to when ticks were decided, or were before this schedule held; None: never set.

    A schedule that a restore brought back goes on where the ticks were: of those in between none
    is lost.
    """
    goes_on = configured.origin is Origin.RESTORED and taken.behind is not None
    if goes_on or taken.configuration == configuration_of(configured):
        return taken.behind
    known = [at for at in (taken.behind, configured.since) if at is not None]
    return max(known) if known else None


def tick_command(
    context: BackupContext,
    schedule: Configured[Schedule],
    taken: Taken,
    tick: datetime,
    attempt: int,
) -> CreateBackup:
    """Return the command of a tick: whoever takes it makes the same one."""
    instance = context.settings.place.instance_id
    name = f"{instance} {taken.era} {tick.isoformat()} {attempt}"
    local = tick.astimezone(schedule.value.rule.zone).isoformat(timespec="minutes")
    again = "" if attempt == 1 else f", attempt {attempt}"
    return CreateBackup(
        command_id=uuid5(_COMMANDS, name),
        reason=f"the schedule, for {local}{again}",
        recipients=may_encrypt_to(schedule),
        wait_for_restore=True,
    )


def change_command(
    context: BackupContext, schedule: Configured[Schedule], decision: int, events: int | None
) -> CreateBackup:
    """Return the command of the ``decision``-th backup that changes have caused."""
    name = f"{context.settings.place.instance_id} change {decision}"
    since = "changes" if events is None else f"{events} events"
    return CreateBackup(
        command_id=uuid5(_COMMANDS, name),
        reason=f"{since} since the last backup",
        recipients=may_encrypt_to(schedule),
        wait_for_restore=True,
    )


def may_encrypt_to(schedule: Configured[Schedule]) -> tuple[str, ...]:
    """Return the recipients that somebody here answers for: all, or none before a word.

    Without them a one-time key waits: nobody reads a backup whom a restore has brought back.
    """
    return schedule.value.recipients if schedule.confirmed else ()
