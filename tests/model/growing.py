"""The model over a log with many restores: what it knew at a position it remembers.

``Model.at`` folds the log from offset 0, and each restore in it again: right, and for hundreds of
restores too slow. Here a later position goes on from the last one that was asked for.
"""

from __future__ import annotations

from typing import Any

from tests.model.log import Model
from tests.model.state import State


class GrowingModel(Model):
    """A model whose ``at`` is asked for positions that mostly grow."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[int, GrowingModel] = {}

    def at(self, position: int) -> Model:
        """Return the model as it was when everything before ``position`` had been applied."""
        if position not in self._known:
            before = max((known for known in self._known if known < position), default=None)
            earlier = GrowingModel(self.log, self._sources)
            if before is not None:
                earlier = self._known[before]._copy()
            earlier._known = self._known
            done = before or 0
            earlier.apply_all(
                logged for logged in self._history if done <= logged.offset < position
            )
            self._known[position] = earlier
        return self._known[position]._copy()

    def _copy(self) -> GrowingModel:
        other = GrowingModel(self.log, self._sources)
        other.state = shallow(self.state)
        other.epoch, other.fence = self.epoch, self.fence
        other.highest_fence_no = self.highest_fence_no
        other._history, other._behind = list(self._history), list(self._behind)
        other._fences = dict(self._fences)
        other._known = self._known
        return other


def shallow(state: State) -> State:
    """Return a state with rows of its own; the values in them are never changed in place."""
    other = State()
    other.rows = {
        name: {key: dict(row) for key, row in rows.items()} for name, rows in state.rows.items()
    }
    return other
