"""When rehearsals run by themselves: the instance's setting, and what was decided about its ticks.

One stream, every decision one append: of two replicas that decide at once one does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from restore_service.context import RestoreContext
from shared.database import Connection, missing
from shared.errors import UsageError
from shared.messages.between import REHEARSAL_SKIPPED
from shared.standing.rehearsal import RehearsalTiming

PREFIX: Final = "com.secryn.restore."
TICK_TAKEN: Final = PREFIX + "rehearsal_tick_taken.v1"
TICK_RETRIED: Final = PREFIX + "rehearsal_tick_retried.v1"
# Told to others as well: nothing else shows that a rehearsal did not come about.
SKIPPED: Final = REHEARSAL_SKIPPED
REBASED: Final = PREFIX + "rehearsal_schedule_rebased.v1"

STREAM: Final = "rehearsals-by-schedule"
_COMMANDS: Final = UUID("d2c8f3b4-7e0a-5b6d-8d5c-2f9a1e4b7c30")


@dataclass(frozen=True)
class Setting:
    """The instance's setting as it is; with a ``fault`` it cannot be read, and the defaults hold."""

    value: RehearsalTiming
    digest: str
    since: datetime | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Decided:
    """The last decision about a tick. Every tick up to ``behind`` was decided.

    ``era`` counts how often the clock was set back: a tick that comes again is another one then.
    """

    version: int = 0
    behind: datetime | None = None
    era: int = 0
    digest: str | None = None
    tick: datetime | None = None
    attempt: int = 0
    rehearsal_id: str | None = None
    shown: dict[str, Any] | None = None


def read_setting(conn: Connection) -> Setting:
    """Return when rehearsals run; in a store without settings: never."""
    row = None
    if not missing(conn, "instance.settings"):
        row = conn.execute(
            "SELECT value, updated_at FROM instance.settings WHERE name = %s",
            (RehearsalTiming.setting(),),
        ).fetchone()
    if row is None:
        return Setting(RehearsalTiming(), _digest(None))
    document, since = row
    try:
        return Setting(RehearsalTiming.read(document), _digest(document), since)
    except UsageError as error:
        # A newer release may have written it, or a zone may be gone.
        return Setting(RehearsalTiming(), _digest(document), since, error.message)


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode("ascii")).hexdigest()


def read_decided(context: RestoreContext, conn: Connection) -> Decided:
    """Return the last decision about a tick."""
    last = context.store.last(conn, STREAM)
    if last is None:
        return Decided()
    data = last.data
    tick = data.get("tick")
    shown = {
        "tick": tick,
        "rehearsal_id": data.get("rehearsal_id"),
        "attempt": data.get("attempt", 0),
        "error": data.get("error"),
    }
    return Decided(
        version=last.version,
        behind=datetime.fromisoformat(data["behind"]),
        era=data["era"],
        digest=data["setting"],
        tick=None if tick is None else datetime.fromisoformat(tick),
        attempt=data.get("attempt", 0),
        rehearsal_id=data.get("rehearsal_id"),
        shown=None if tick is None else shown,
    )


def decided_until(setting: Setting, decided: Decided) -> datetime | None:
    """Return up to when ticks were decided, or were before this setting held; None: never set."""
    if setting.digest == decided.digest:
        return decided.behind
    known = [at for at in (decided.behind, setting.since) if at is not None]
    return max(known) if known else None


def command_of(context: RestoreContext, era: int, tick: datetime, attempt: int) -> UUID:
    """Return the id of the command that a tick is: whoever takes it makes the same one."""
    instance = context.settings.place.instance_id
    return uuid5(_COMMANDS, f"{instance} {era} {tick.isoformat()} {attempt}")
