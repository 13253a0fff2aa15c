"""The documents about the schedule, and about what a loss would cost now."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from shared.api.common import Id, Time
from shared.api.configuration import Configured


class RecoveryPoint(TypedDict):
    """What a restore of the newest backup that counts would lose; null where it cannot be told."""

    backup_id: Id | None
    events: int | None
    seconds: int | None


class Run(TypedDict):
    """A run to come: its tick, when it is due with the jitter, and that in the schedule's zone."""

    tick: Time
    due_at: Time
    local: Time


class Schedule(Configured):
    """The schedule, its next runs, what became of the last tick, who waits for a word."""

    next_runs: list[Run]
    last_tick: dict[str, Any] | None
    waiting_recipients: list[str]


class Protection(TypedDict):
    """What a loss would cost now, whether backups are stale, what runs next, what waits.

    ``recipients``: whom scheduled backups are encrypted to, by fingerprint.
    """

    recovery_point: RecoveryPoint
    staleness: dict[str, Any] | None
    next_run: Run | None
    recipients: list[str]
    awaits_confirmation: list[object] | dict[str, Any]
