"""How restores stand on the log: fences that open and close, and what each close means.

A pure state machine over the three restore events of one log. The projector follows the log with
it; so does whoever retraces a history (a roll-forward, a preview). It decides nothing but the
fence: which events apply between is the follower's.

- A Started opens the fence when its number is above every number seen and none is open. Behind
  an open fence its number is spent: whoever reads those events again after an abort must not let
  it rise then, a fence that nobody closes.
- An Aborted or a Restored closes it when number, restore and (for Restored) offset match.
- Everything else changes nothing and is reported with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from uuid import UUID

from shared.instance.events import (
    InstanceEvent,
    LogAdopted,
    RestoreAborted,
    Restored,
    RestoreStarted,
)
from shared.instance.position import LogPosition


@dataclass(frozen=True)
class Fence:
    """An open fence: its number, its restore, and the offset F of the event that opened it."""

    fence_no: int
    restore_id: UUID
    offset: int


@dataclass(frozen=True)
class Opened:
    """The fence is up; events behind it wait for its end."""

    fence: Fence
    backup_id: UUID


@dataclass(frozen=True)
class ClosedAborted:
    """Nothing was replaced: the events behind F apply as if nothing had happened."""

    fence: Fence
    offset: int


@dataclass(frozen=True)
class ClosedRestored:
    """The state was replaced: F..R is void, and ``event.source`` says what the state equals."""

    fence: Fence
    offset: int
    event: Restored


@dataclass(frozen=True)
class Ignored:
    """A restore event that changes nothing, and why (a word that can be counted)."""

    reason: str


Verdict = Opened | ClosedAborted | ClosedRestored | Ignored


@dataclass
class FenceTracker:
    """The fence as far as the log was read."""

    highest_fence_no: int
    fence: Fence | None = None

    @classmethod
    def at(cls, position: LogPosition) -> Self:
        """Return the machine as it is at a store's position."""
        if (
            position.fence_no is None
            or position.fence_restore_id is None
            or position.fence_offset is None
        ):
            return cls(position.highest_fence_no)
        fence = Fence(position.fence_no, position.fence_restore_id, position.fence_offset)
        return cls(position.highest_fence_no, fence)

    def see(self, offset: int, event: InstanceEvent) -> Verdict:
        """Take the next restore event, at ``offset``, whose signature was checked.

        A log adoption moves no fence. Raises TypeError for an event that is none of these.
        """
        if isinstance(event, LogAdopted):
            return Ignored("log_adopted")
        if isinstance(event, RestoreStarted):
            return self._started(offset, event)
        if isinstance(event, RestoreAborted | Restored):
            return self._closed(offset, event)
        raise TypeError(f"{type(event).__name__} is no restore event")

    def _started(self, offset: int, event: RestoreStarted) -> Verdict:
        used = event.fence_no <= self.highest_fence_no
        self.highest_fence_no = max(event.fence_no, self.highest_fence_no)
        if self.fence is not None:
            return Ignored("fence_already_open")
        if used:
            return Ignored("fence_no_used")
        self.fence = Fence(event.fence_no, event.restore_id, offset)
        return Opened(self.fence, event.backup_id)

    def _closed(self, offset: int, event: RestoreAborted | Restored) -> Verdict:
        fence = self.fence
        if fence is None:
            return Ignored("fence_not_open")
        if (event.fence_no, event.restore_id) != (fence.fence_no, fence.restore_id):
            return Ignored("another_fence")
        if isinstance(event, Restored):
            if event.fence_offset != fence.offset:
                return Ignored("another_fence")
            self.fence = None
            return ClosedRestored(fence, offset, event)
        self.fence = None
        return ClosedAborted(fence, offset)
