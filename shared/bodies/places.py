"""What backup_service says of the place: its settings, its schedule, its log, who may come in."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from shared.api.common import Fault, Id, Sha256, Time
from shared.api.retention import PassedOver, Rules
from shared.bodies.base import Body

PREFIX = "com.secryn.backup."


class _LogPosition(TypedDict):
    """Where on which log the store stood."""

    cluster_id: str | None
    topic_id: str | None
    position: int


class _OpenFence(TypedDict):
    """A fence that stood open."""

    fence_no: int
    restore_id: Id


class LogAdoptionDecided(Body):
    """The store follows the log that is there now, in place of one that was lost."""

    TYPE: ClassVar[str] = PREFIX + "log_adopted.v1"
    instance_id: Id
    reason: str
    start: Literal["beginning", "end"] = Field(alias="from")
    cluster_id: str
    topic_id: str
    position: int
    epoch: int
    to_apply: int
    passed_over: int
    lost_log: _LogPosition
    lowered_fence: _OpenFence | None


class EventSkipped(Body):
    """The store passed an event that nobody could decode."""

    TYPE: ClassVar[str] = PREFIX + "event_skipped.v1"
    instance_id: Id
    reason: str
    cluster_id: str
    topic_id: str
    offset: int
    position: int
    epoch: int
    fault: str
    logged_at_ms: int
    size_bytes: int
    sha256: Sha256


class ValueBefore(TypedDict):
    """What a decision replaced or confirmed."""

    digest: Sha256
    origin: str
    since: Time | None


class _Decision(Body):
    """A decision about a standing setting; recipients stand in it by their fingerprints."""

    name: str
    value: dict[str, Any]
    digest: Sha256
    epoch: int
    topic_id: str | None
    setting_event_id: Id | None
    reason: str
    goes_on_since: Time | None
    before: ValueBefore


class Configured(_Decision):
    """A standing setting was changed; ``setting_event_id`` is that on the instance's log."""

    TYPE: ClassVar[str] = PREFIX + "configured.v1"


class ConfigurationConfirmed(_Decision):
    """Somebody here answers for a standing setting as it is."""

    TYPE: ClassVar[str] = PREFIX + "configuration_confirmed.v1"


class ConfirmationAwaited(Body):
    """What a restore brought back of a setting does nothing, in part, before a word of somebody."""

    TYPE: ClassVar[str] = PREFIX + "confirmation_awaited.v1"
    name: str
    origin: str
    etag: str
    epoch: int
    paused: bool
    waiting_recipients: list[str]


class RestoreNoted(Body):
    """From where the data of an epoch came."""

    TYPE: ClassVar[str] = PREFIX + "restore_noted.v1"
    restore_id: Id
    epoch: int
    source_instance_id: Id | None
    undo_of: Id | None
    of_this_instance: bool


class _OfSchedule(Body):
    """A decision about the schedule; every run up to ``behind`` was decided.

    ``era`` counts how often the clock was set back, ``configuration`` tells schedules apart.
    """

    behind: Time
    era: int
    configuration: str


class TickTaken(_OfSchedule):
    """What became of a run: a backup, or the one because of which there is none."""

    TYPE: ClassVar[str] = PREFIX + "tick_taken.v1"
    tick: Time
    due_at: Time
    outcome: Literal["run", "skipped", "overlapped", "unchanged"]
    missed: int
    attempt: int
    backup_id: Id | None


class TickRetried(_OfSchedule):
    """A run that failed by what passes was begun again."""

    TYPE: ClassVar[str] = PREFIX + "tick_retried.v1"
    tick: Time
    outcome: Literal["run"]
    attempt: int
    backup_id: Id
    failed_backup_id: Id
    code: str


class ScheduleRebased(_OfSchedule):
    """The clock was set back: runs are counted from there."""

    TYPE: ClassVar[str] = PREFIX + "schedule_rebased.v1"
    was_behind: Time


class ChangeTaken(Body):
    """So many events asked for a backup; null where nobody can tell how many."""

    TYPE: ClassVar[str] = PREFIX + "change_taken.v1"
    at: Time
    events: int | None
    position: int
    epoch: int
    since_backup_id: Id | None
    backup_id: Id


class WatchBegan(Body):
    """From now on it is watched how old the newest backup is."""

    TYPE: ClassVar[str] = PREFIX + "watch_began.v1"


class _Age(Body):
    """How old the newest backup that counts is; null without one."""

    stale: bool
    within_s: int | None
    since: Time
    backup_id: Id | None


class BackupsStale(_Age):
    """The newest backup that counts is older than was set."""

    TYPE: ClassVar[str] = PREFIX + "stale.v1"


class BackupsFresh(_Age):
    """There is a backup again that is young enough."""

    TYPE: ClassVar[str] = PREFIX + "fresh.v1"


class _OfRun(Body):
    """A run of the rules of retention."""

    run_id: Id


class RetentionRequested(_OfRun):
    """The rules are to be applied."""

    TYPE: ClassVar[str] = PREFIX + "retention_requested.v1"
    reason: str


class RetentionApplied(_OfRun):
    """What came of it; of each kind the first 1000 are named."""

    TYPE: ClassVar[str] = PREFIX + "retention_applied.v1"
    rules: Rules
    origin: str
    kept: int
    purged: int
    refused: int
    purged_backups: list[Id]
    refused_backups: list[Id]
    skipped: list[PassedOver]


class RetentionFailed(_OfRun):
    """The rules were not applied."""

    TYPE: ClassVar[str] = PREFIX + "retention_failed.v1"
    error: Fault


class TokenCreated(Body):
    """An API token was made; it is in no event."""

    TYPE: ClassVar[str] = "com.secryn.access.token_created.v1"
    token_id: Id
    name: str
    permissions: list[str]
    unattended: bool
    expires_at: Time


class TokenRevoked(Body):
    """An API token was ended."""

    TYPE: ClassVar[str] = "com.secryn.access.token_revoked.v1"
    token_id: Id
    name: str
