"""The documents of retention."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from shared.api.common import Fault, Id, Time

Rules = dict[str, int | str | None]


class Verdict(TypedDict):
    """What becomes of one backup, and the rule that decided; ``standing`` is what it is good for."""

    backup_id: Id
    taken_at: Time
    standing: str
    verdict: Literal["keep", "purge"]
    rule: str


class RetentionPreview(TypedDict):
    """What rules say of each backup, the newest first; ``purge`` and ``keep`` count them."""

    rules: Rules
    origin: str
    confirmed: bool
    paused: bool
    fault: str | None
    purge: int
    keep: int
    backups: list[Verdict]


class PassedOver(TypedDict):
    """A backup that something kept when its turn came."""

    backup_id: Id
    code: str


class RetentionOutcome(TypedDict):
    """What came of a run; of each kind the first 1000 are named."""

    rules: Rules
    origin: str
    kept: int
    purged: int
    refused: int
    purged_backups: list[Id]
    refused_backups: list[Id]
    skipped: list[PassedOver]


class RetentionRun(TypedDict):
    """One run of the rules; ``outcome`` is there once it is applied, ``error`` once it failed."""

    run_id: Id
    state: Literal["requested", "applied", "failed"]
    reason: str
    requested_by: str
    requested_at: Time
    correlation_id: str
    applied_at: Time | None
    outcome: RetentionOutcome | None
    error: Fault | None
