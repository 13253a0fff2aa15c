"""What every rule of the model is written with.

A rule asks before it changes anything, so that a refused event leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from shared.instance import events as ev
from tests.model.state import Row, State


class Logged(Protocol):
    """An event as it stands on the log."""

    @property
    def offset(self) -> int: ...
    @property
    def event_id(self) -> UUID: ...
    @property
    def type(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def actor(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def event(self) -> ev.InstanceEvent: ...


E = TypeVar("E", bound=ev.InstanceEvent)
Rule = Callable[[State, Any, Logged], None]
RULES: dict[type[ev.InstanceEvent], Rule] = {}


def rule(
    cls: type[E],
) -> Callable[[Callable[[State, E, Logged], None]], Callable[[State, E, Logged], None]]:
    def register(
        function: Callable[[State, E, Logged], None],
    ) -> Callable[[State, E, Logged], None]:
        RULES[cls] = function
        return function

    return register


def made(logged: Logged) -> Row:
    return {"created_at": logged.time, "created_by": logged.actor}


def owned(logged: Logged) -> Row:
    return made(logged) | {"deleted_at": None}
