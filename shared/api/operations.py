"""The documents of Recent Operations."""

from __future__ import annotations

from typing_extensions import TypedDict

from shared.api.common import Document, Time


class Operation(TypedDict):
    """One operation as it stands; ``where_to_look`` is the command that shows more.

    ``position`` is that of its last change.
    """

    operation_id: str
    kind: str
    outcome: str
    code: str | None
    actor: str
    subject_type: str
    subject: str
    reason: str | None
    started_at: Time
    ended_at: Time | None
    duration_s: float | None
    correlation_id: str
    details: Document
    where_to_look: str
    position: int


class OperationPage(TypedDict):
    """A page of operations, the newest first; ``position`` is where to follow the changes from."""

    operations: list[Operation]
    next_cursor: str | None
    position: int


class OperationChanges(TypedDict):
    """What changed behind a position, each operation once, as it stands; and the new position."""

    operations: list[Operation]
    position: int
