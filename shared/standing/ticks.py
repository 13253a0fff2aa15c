"""Which tick is due: pure, so that a model can be asked the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from shared.standing.timing import Timing

# A run that begins later than this was missed: its service was down, or the clock was put forward.
LATE: Final = timedelta(minutes=5)
# Ticks that nobody took are counted so far and no further.
MAX_MISSED: Final = 1000
# Between a delayed run and the next one there is time left.
_LEAST_GAP_S: Final = 60
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Tick:
    """One run: ``at`` is what the rule names, ``due_at`` is ``at`` and its jitter."""

    at: datetime
    due_at: datetime

    def shown(self, zone: ZoneInfo) -> dict[str, str]:
        """Return what the interfaces show: the run, when it is due, and that on ``zone``'s clocks."""
        return {
            "tick": self.at.isoformat(),
            "due_at": self.due_at.isoformat(),
            "local": self.due_at.astimezone(zone).isoformat(),
        }


@dataclass(frozen=True)
class Due:
    """The newest tick that is due; ``missed`` counts those before it that nobody took."""

    tick: Tick
    missed: int
    late: bool


def find_due(schedule: Timing, seed: str, now: datetime, behind: datetime) -> Due | None:
    """Return what is to be decided at ``now``, if every tick up to ``behind`` was decided.

    ``seed`` is the instance's, so that two of them do not run at once.
    """
    behind = _behind(schedule, behind)
    newest = schedule.rule.last_until(now, behind) if schedule.enabled else None
    if newest is None:
        return None
    tick = delayed(schedule, seed, newest)
    if tick.due_at > now:
        # A delay never reaches the next tick: the one before this one is due.
        before = schedule.rule.last_until(newest - _INSTANT, behind)
        if before is None:
            return None
        tick = delayed(schedule, seed, before)
    missed = _count(schedule, behind, tick.at)
    return Due(tick, missed, now - tick.due_at > LATE)


def next_runs(schedule: Timing, seed: str, now: datetime, behind: datetime) -> Iterator[Tick]:
    """Yield the ticks that will be due, as the schedule stands now."""
    start = max(_behind(schedule, behind), now - timedelta(seconds=schedule.jitter_s))
    if not schedule.enabled:
        return
    for at in schedule.rule.after(start):
        tick = delayed(schedule, seed, at)
        if tick.due_at > now:
            yield tick


def delayed(schedule: Timing, seed: str, at: datetime) -> Tick:
    """Return the tick with its jitter: the same for whoever asks, however often."""
    if schedule.jitter_s == 0:
        return Tick(at, at)
    following = next(schedule.rule.after(at), None)
    room = schedule.jitter_s
    if following is not None:
        room = min(room, max(0, int((following - at).total_seconds()) - _LEAST_GAP_S))
    digest = hashlib.sha256(f"{seed} {at.isoformat()}".encode("ascii")).digest()
    return Tick(at, at + timedelta(seconds=int.from_bytes(digest[:8], "big") % (room + 1)))


def _behind(schedule: Timing, behind: datetime) -> datetime:
    """A pause ends with its last moment: what is due then runs."""
    resumes_at = schedule.resumes_at
    return behind if resumes_at is None else max(behind, resumes_at - _INSTANT)


def _count(schedule: Timing, behind: datetime, until: datetime) -> int:
    ticks = islice(schedule.rule.after(behind), MAX_MISSED)
    count = 0
    for at in ticks:
        if at >= until:
            break
        count += 1
    return count
