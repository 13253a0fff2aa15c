"""The log: which events count, and what a restore makes of the state.

The model keeps the whole log from offset 0, so that it can say what the state is after a restore:
what the source's log held at the position that the restore names; after an undo that names no
source, what this log held at the undone restore's fence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from uuid import UUID

from shared.instance import events as ev
from tests.model import access, contents
from tests.model.rulebook import RULES, Logged
from tests.model.state import Refused, State, Tables

# Importing these fills RULES.
RULE_MODULES = (access, contents)
LogName = tuple[str, str]


class SourceUnknown(Exception):
    """A restore took its state from a log that this model was not given."""


class Model:
    """The state of an instance after every event of its log so far."""

    def __init__(
        self, log: LogName | None = None, sources: Mapping[LogName, Sequence[Logged]] | None = None
    ) -> None:
        """Begin at offset 0 of ``log`` (cluster id, topic id).

        ``sources`` are the events of other logs that restores may refer to.
        """
        self.log = log
        self.state = State()
        self.epoch = 1
        self.fence: tuple[int, UUID, int] | None = None
        self.highest_fence_no = 0
        self.applied = 0
        self.rejected = 0
        self.skipped: Counter[str] = Counter()
        self._sources = dict(sources or {})
        self._history: list[Logged] = []
        self._behind: list[Logged] = []
        self._fences: dict[UUID, int] = {}

    def tables(self) -> Tables:
        """Return a copy of every row, by table and key."""
        return deepcopy(self.state.rows)

    def at(self, position: int) -> Model:
        """Return the model as it was when everything before ``position`` had been applied."""
        earlier = Model(self.log, self._sources)
        earlier.apply_all(logged for logged in self._history if logged.offset < position)
        return earlier

    def apply_all(self, history: Iterable[Logged]) -> None:
        """Take the next events of the log. Raises SourceUnknown."""
        for logged in history:
            self.apply(logged.offset, logged)

    def apply(self, offset: int, logged: Logged) -> None:
        """Take the next event of the log, a restore event or another. Raises SourceUnknown."""
        assert not self._history or offset > self._history[-1].offset, "a log only goes on"
        self._history.append(logged)
        event = logged.event
        if isinstance(event, ev.Restored | ev.RestoreAborted) and self._ends_fence(event):
            self._closed(event)
        elif self.fence is not None:
            self._behind.append(logged)
        if isinstance(event, ev.RestoreStarted):
            self._started(offset, event)
        elif self.fence is None and not isinstance(event, ev.FENCE_EVENTS):
            self._fold(logged)

    def _started(self, offset: int, event: ev.RestoreStarted) -> None:
        unused = event.fence_no > self.highest_fence_no
        # Seen is seen, also behind another fence: a number is never used twice.
        self.highest_fence_no = max(self.highest_fence_no, event.fence_no)
        if unused and self.fence is None:
            self.fence = (event.fence_no, event.restore_id, offset)
            self._fences[event.restore_id] = offset

    def _ends_fence(self, event: ev.Restored | ev.RestoreAborted) -> bool:
        if self.fence is None or (event.fence_no, event.restore_id) != self.fence[:2]:
            return False
        return isinstance(event, ev.RestoreAborted) or event.fence_offset == self.fence[2]

    def _closed(self, event: ev.Restored | ev.RestoreAborted) -> None:
        self.fence = None
        behind, self._behind = self._behind, []
        if isinstance(event, ev.Restored):
            self.state = self._state_after(event)
            self.epoch = event.epoch
            self.skipped["fenced"] += len(behind)
        else:
            for logged in behind:
                if not isinstance(logged.event, ev.FENCE_EVENTS):
                    self._fold(logged)

    def _state_after(self, event: ev.Restored) -> State:
        if event.source is None and event.undo_of is not None:
            return self.at(self._fences[event.undo_of]).state
        assert event.source is not None, "a restore has a source, or is an undo"
        name = (event.source.cluster_id, event.source.topic_id)
        if name == self.log:
            return self.at(event.source.position).state
        if name not in self._sources:
            raise SourceUnknown(f"the log {name} was not given")
        other = Model(name, self._sources)
        other.apply_all(self._sources[name])
        return other.at(event.source.position).state

    def _fold(self, logged: Logged) -> None:
        if logged.epoch != self.epoch:
            self.skipped["epoch"] += 1
            return
        try:
            RULES[type(logged.event)](self.state, logged.event, logged)
            self.applied += 1
        except Refused as refused:
            self.rejected += 1
            self.state.put(
                "rejections",
                event_offset=logged.offset,
                event_id=logged.event_id,
                event_type=logged.type,
                code=str(refused),
                event_time=logged.time,
                actor=logged.actor,
            )
