"""What every rule of the fold is written with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from shared.instance.events import InstanceEvent
from shared.instance.workingset import Needs, Row, WorkingSet


class LoggedEvent(NamedTuple):
    """An event as it stands on the log."""

    offset: int
    event_id: UUID
    type: str
    time: datetime
    actor: str
    epoch: int
    event: InstanceEvent


class Contradiction(Exception):
    """An event does not fit the state; ``code`` and the message go into ``rejections``."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


E = TypeVar("E", bound=InstanceEvent)
Rule = Callable[[WorkingSet, Any, LoggedEvent], None]
Declare = Callable[[Any, Needs], None]
RULES: dict[type[InstanceEvent], tuple[Declare, Rule]] = {}


def folds(
    cls: type[E], declare: Callable[[E, Needs], None]
) -> Callable[
    [Callable[[WorkingSet, E, LoggedEvent], None]], Callable[[WorkingSet, E, LoggedEvent], None]
]:
    """Register a rule for the events of ``cls``; ``declare`` says which rows it refers to."""

    def register(
        function: Callable[[WorkingSet, E, LoggedEvent], None],
    ) -> Callable[[WorkingSet, E, LoggedEvent], None]:
        RULES[cls] = (declare, function)
        return function

    return register


def present(working: WorkingSet, table: str, *key: Any) -> Row:
    row = working.get(table, *key)
    if row is None:
        raise Contradiction("missing", f"{table} has no {'/'.join(map(str, key))}")
    return row


def alive(working: WorkingSet, table: str, key: UUID) -> Row:
    row = present(working, table, key)
    if row["deleted_at"] is not None:
        raise Contradiction("deleted", f"{table} {key} is deleted")
    return row


def absent(working: WorkingSet, table: str, *key: Any) -> None:
    if working.get(table, *key) is not None:
        raise Contradiction("exists", f"{table} has {'/'.join(map(str, key))} already")


def free(working: WorkingSet, table: str, own: UUID, *name: Any) -> None:
    holder = working.holder(table, *name)
    if holder is not None and holder != (own,):
        raise Contradiction("name_taken", f"{table} {holder[0]} has this name")


def next_version(row: Row, version: int) -> None:
    if version != row["current_version"] + 1:
        raise Contradiction(
            "wrong_version", f"version {version} does not follow {row['current_version']}"
        )


def owned(logged: LoggedEvent) -> Row:
    return {"created_at": logged.time, "created_by": logged.actor, "deleted_at": None}


def made(logged: LoggedEvent) -> Row:
    return {"created_at": logged.time, "created_by": logged.actor}


def by_id(table: str) -> Callable[[Any, Needs], None]:
    return lambda event, needs: needs.keys[table].add((event.id,))


def mark_deleted(table: str) -> Callable[[WorkingSet, Any, LoggedEvent], None]:
    def mark(working: WorkingSet, event: Any, logged: LoggedEvent) -> None:
        working.put(table, alive(working, table, event.id) | {"deleted_at": logged.time})

    return mark
