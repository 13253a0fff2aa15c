"""Keep or purge, for each backup, and the rule that decided.

The order: holds and safety; then the keep rules protect, as in restic; then the limits purge what
is over the number or older than the days. Whatever none of them names stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.span import Span
from backup_service.retention.standing import Standing


class Rule(StrEnum):
    """What decided about a backup."""

    HELD = "held"
    IN_USE = "in_use"
    UNDO_WINDOW = "undo_window"
    NEWEST = "newest_that_counts"
    KEY_WAITS = "key_waits"
    NOTHING_COUNTS = "nothing_counts"
    KEEP_WITHIN = "keep_within"
    KEEP_HOURLY = "keep_hourly"
    KEEP_DAILY = "keep_daily"
    KEEP_WEEKLY = "keep_weekly"
    KEEP_MONTHLY = "keep_monthly"
    KEEP_YEARLY = "keep_yearly"
    OVER_LAST = "keep_last"
    OLDER_THAN = "older_than_days"
    WITHIN_LIMITS = "within_limits"
    UNCONFIRMED = "unconfirmed"
    PAUSED = "paused"


Period = Callable[[datetime], tuple[int, ...]]

PURGING: Final = frozenset({Rule.OVER_LAST, Rule.OLDER_THAN})


@dataclass(frozen=True)
class Candidate:
    """A created backup as the rules see it; ``taken_at`` is when its snapshot was begun.

    ``needed`` is the rule of safety that keeps it whatever the policy says, if one does.
    """

    backup_id: str
    taken_at: datetime
    standing: Standing
    needed: Rule | None = None

    @property
    def counts(self) -> bool:
        """Tell whether the backup is proven and can be opened by someone."""
        return self.standing is Standing.COUNTS


@dataclass(frozen=True)
class Verdict:
    """What becomes of a backup, and by which rule."""

    backup: Candidate
    rule: Rule

    @property
    def purge(self) -> bool:
        """Tell whether the backup is to be purged."""
        return self.rule in PURGING

    def as_json(self) -> dict[str, Any]:
        """Return what the interfaces show."""
        return {
            "backup_id": self.backup.backup_id,
            "taken_at": self.backup.taken_at.isoformat(),
            "standing": str(self.backup.standing),
            "verdict": "purge" if self.purge else "keep",
            "rule": str(self.rule),
        }


def evaluate(policy: RetentionPolicy, backups: Sequence[Candidate], now: datetime) -> list[Verdict]:
    """Return a verdict for each backup, the newest first."""
    ordered = newest_first(backups)
    safe = _kept_for_safety(ordered)
    ruled = _by_rules(policy, ordered, now)
    return [Verdict(one, safe.get(one.backup_id) or ruled[one.backup_id]) for one in ordered]


def evaluate_unconfirmed(
    before: RetentionPolicy, after: RetentionPolicy, backups: Sequence[Candidate], now: datetime
) -> list[Verdict]:
    """Return verdicts that purge only what the rules before and after a restore would purge."""
    purged = {v.backup.backup_id for v in evaluate(before, backups, now) if v.purge}
    return [
        Verdict(v.backup, Rule.UNCONFIRMED) if v.purge and v.backup.backup_id not in purged else v
        for v in evaluate(after, backups, now)
    ]


def would_purge_all(policy: RetentionPolicy, backups: Sequence[Candidate], now: datetime) -> bool:
    """Tell whether, but for holds and safety, no backup that counts would be left."""
    ruled = _by_rules(policy, newest_first(backups), now)
    counting = [one for one in backups if one.counts]
    return bool(counting) and all(ruled[one.backup_id] in PURGING for one in counting)


def newest_first(backups: Sequence[Candidate]) -> list[Candidate]:
    """Return the backups in the order in which the rules go through them."""
    return sorted(backups, key=lambda one: (one.taken_at, one.backup_id), reverse=True)


def newest_that_counts(backups: Sequence[Candidate]) -> Candidate | None:
    """Return the one that is never purged, whatever the rules and whoever asks."""
    counting = (one for one in newest_first(backups) if one.counts)
    return next(counting, None)


def _kept_for_safety(ordered: Sequence[Candidate]) -> dict[str, Rule]:
    newest = newest_that_counts(ordered)
    kept: dict[str, Rule] = {}
    for one in ordered:
        if one.needed is not None:
            kept[one.backup_id] = one.needed
        elif one is newest:
            kept[one.backup_id] = Rule.NEWEST
        elif one.standing is Standing.KEY_WAITS:
            kept[one.backup_id] = Rule.KEY_WAITS
        elif newest is None and one.standing is not Standing.KEY_EXPIRED:
            # What may perhaps be opened is not thrown away while there is nothing better.
            kept[one.backup_id] = Rule.NOTHING_COUNTS
    return kept


def _by_rules(
    policy: RetentionPolicy, ordered: Sequence[Candidate], now: datetime
) -> dict[str, Rule]:
    """Return what the policy says of each backup; only those that count are kept by it."""
    counting = [one for one in ordered if one.counts]
    protected = _protected(policy, counting, now)
    over = set() if policy.keep_last is None else set(counting[policy.keep_last :])
    found: dict[str, Rule] = {}
    for one in ordered:
        if one.backup_id in protected:
            found[one.backup_id] = protected[one.backup_id]
        elif one in over:
            found[one.backup_id] = Rule.OVER_LAST
        elif policy.older_than_days is not None and (
            now - one.taken_at > timedelta(days=policy.older_than_days)
        ):
            found[one.backup_id] = Rule.OLDER_THAN
        else:
            found[one.backup_id] = Rule.WITHIN_LIMITS
    return found


def _protected(
    policy: RetentionPolicy, counting: Sequence[Candidate], now: datetime
) -> dict[str, Rule]:
    """Return what restic's rules keep: the first rule that keeps it stands for each backup."""
    zone = ZoneInfo(policy.zone)
    kept: dict[str, Rule] = {}
    for one in _within(policy, counting, now, zone):
        kept[one.backup_id] = Rule.KEEP_WITHIN
    for rule, count, period in (
        (Rule.KEEP_HOURLY, policy.keep_hourly, _hour),
        (Rule.KEEP_DAILY, policy.keep_daily, _day),
        (Rule.KEEP_WEEKLY, policy.keep_weekly, _week),
        (Rule.KEEP_MONTHLY, policy.keep_monthly, _month),
        (Rule.KEEP_YEARLY, policy.keep_yearly, _year),
    ):
        for one in _newest_of_each(counting, count or 0, period, zone):
            kept.setdefault(one.backup_id, rule)
    return kept


def _within(
    policy: RetentionPolicy, counting: Sequence[Candidate], now: datetime, zone: ZoneInfo
) -> list[Candidate]:
    """Return what was taken within the span before the newest that is not of the future."""
    newest = next((one.taken_at for one in counting if one.taken_at <= now), None)
    if policy.keep_within is None:
        return []
    if newest is None:
        return list(counting)
    edge = Span.parse(policy.keep_within).before(newest, zone)
    return [one for one in counting if one.taken_at > edge]


def _newest_of_each(
    counting: Sequence[Candidate], count: int, period: Period, zone: ZoneInfo
) -> list[Candidate]:
    """Return the newest of each of the last ``count`` periods that have one.

    While there are fewer, the oldest of all is kept as well, so that the history reaches back as
    far as it can.
    """
    found: list[Candidate] = []
    last = None
    for one in counting:
        if len(found) == count:
            break
        present = period(one.taken_at.astimezone(zone))
        if present != last or one is counting[-1]:
            found.append(one)
            last = present
    return found


def _hour(local: datetime) -> tuple[int, ...]:
    return (local.year, local.month, local.day, local.hour)


def _day(local: datetime) -> tuple[int, ...]:
    return (local.year, local.month, local.day)


def _week(local: datetime) -> tuple[int, ...]:
    return local.isocalendar()[:2]


def _month(local: datetime) -> tuple[int, ...]:
    return (local.year, local.month)


def _year(local: datetime) -> tuple[int, ...]:
    return (local.year,)
