"""Retention by brute force: each backup is asked about on its own, by counting all the others.

Written from docs/retention.md and restic's documentation, not from the code: nothing is sorted, no
rule goes through the backups in order, and a day is the number of seconds that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from backup_service.retention.evaluate import Candidate
from backup_service.retention.policy import RetentionPolicy
from backup_service.retention.standing import Standing

SAFETY = ("held", "in_use", "undo_window")
PERIODS: tuple[tuple[str, Callable[[datetime], str]], ...] = (
    ("keep_hourly", lambda t: t.strftime("%Y-%m-%d %H")),
    ("keep_daily", lambda t: t.strftime("%Y-%m-%d")),
    ("keep_weekly", lambda t: t.strftime("%G week %V")),
    ("keep_monthly", lambda t: t.strftime("%Y-%m")),
    ("keep_yearly", lambda t: t.strftime("%Y")),
)


def rule_of(
    policy: RetentionPolicy, backups: Sequence[Candidate], one: Candidate, now: datetime
) -> tuple[bool, str]:
    """Return whether ``one`` is purged, and the rule that says so."""
    counting = [b for b in backups if b.standing is Standing.COUNTS]
    newer = sum(_newer(other, one) for other in counting)
    if one.needed is not None:
        return False, str(one.needed)
    if one in counting and newer == 0:
        return False, "newest_that_counts"
    if one.standing is Standing.KEY_WAITS:
        return False, "key_waits"
    if not counting and one.standing is not Standing.KEY_EXPIRED:
        return False, "nothing_counts"
    if one in counting:
        protecting = _protecting(policy, counting, one, now)
        if protecting:
            return False, protecting
        if policy.keep_last is not None and newer >= policy.keep_last:
            return True, "keep_last"
    days = policy.older_than_days
    if days is not None and (now - one.taken_at).total_seconds() > days * 86400:
        return True, "older_than_days"
    return False, "within_limits"


def _newer(other: Candidate, one: Candidate) -> bool:
    return (other.taken_at, other.backup_id) > (one.taken_at, one.backup_id)


def _protecting(
    policy: RetentionPolicy, counting: Sequence[Candidate], one: Candidate, now: datetime
) -> str | None:
    zone = ZoneInfo(policy.zone)
    if policy.keep_within is not None:
        past = [b.taken_at for b in counting if b.taken_at <= now]
        if not past or one.taken_at > span_before(policy.keep_within, max(past), zone):
            return "keep_within"
    for name, period in PERIODS:
        count = getattr(policy, name)
        if count is not None and _has_place(counting, one, count, zone, period):
            return name
    return None


def _has_place(
    counting: Sequence[Candidate],
    one: Candidate,
    count: int,
    zone: ZoneInfo,
    period: Callable[[datetime], str],
) -> bool:
    own = period(one.taken_at.astimezone(zone))
    newer = [b for b in counting if _newer(b, one)]
    periods = {period(b.taken_at.astimezone(zone)) for b in newer}
    oldest = not any(_newer(one, b) for b in counting)
    return len(periods) < count and (own not in periods or oldest)


def span_before(text: str, moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment ``text`` before ``moment``: months one by one, then days, then hours."""
    found = {"y": 0, "m": 0, "d": 0, "h": 0}
    number = ""
    for character in text:
        if character.isdigit():
            number += character
        else:
            found[character], number = int(number), ""
    local = moment.astimezone(zone)
    year, month = local.year, local.month
    for _ in range(found["y"] * 12 + found["m"]):
        year, month = (year - 1, 12) if month == 1 else (year, month - 1)
    ordinal = date(year, month, 1).toordinal() + local.day - 1 - found["d"]
    day = date.fromordinal(ordinal)
    wall = datetime(day.year, day.month, day.day, local.hour, local.minute, local.second,
                    local.microsecond, tzinfo=zone)  # fmt: skip
    return datetime.fromtimestamp(wall.timestamp(), moment.tzinfo) - timedelta(hours=found["h"])
