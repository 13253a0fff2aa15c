"""The documents about the instance itself: what is in it, and where its store stands."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from shared.api.backups import TableDigest
from shared.api.common import Id, Sha256


class OpenFence(TypedDict):
    """The fence of the restore that is replacing the instance."""

    restore_id: Id
    offset: int


class Instance(TypedDict):
    """What is in the instance: position, epoch, fence, the number of rows of every table."""

    instance_id: Id
    environment: str
    environment_kind: Literal["production", "staging", "development"]
    position: int
    epoch: int
    fence: OpenFence | None
    skipped: dict[str, int]
    tables: dict[str, int]


class InstanceDigest(TypedDict):
    """The canonical digest of the whole state at one offset, and of each table."""

    instance_id: Id
    digest: Sha256
    offset: int
    epoch: int
    schema_version: int
    tables: dict[str, TableDigest]


class StoreStatus(TypedDict):
    """How far the store is behind the log; ``lag`` is null where that is another log.

    ``stands_still``: the log has had more for the store for 10 s, and the store has not moved. Behind
    a fence it is false: there the store waits for the end of a restore, or is rebuilt past one.
    """

    position: int
    high_watermark: int
    log_lost: bool
    lag: int | None
    epoch: int
    fenced: bool
    stands_still: bool


class LogPlace(TypedDict):
    """A place on a log."""

    cluster_id: str
    topic_id: str
    position: int


class LoweredFence(TypedDict):
    """A fence of a lost log, which never tells its end."""

    fence_no: int
    restore_id: Id


AdoptedLog = TypedDict(
    "AdoptedLog",
    {
        "instance_id": Id,
        "reason": str,
        "from": Literal["beginning", "end"],
        "cluster_id": str,
        "topic_id": str,
        "position": int,
        "epoch": int,
        "to_apply": Annotated[int, Field(description="Offsets of the new log to be folded.")],
        "passed_over": int,
        "lost_log": LogPlace,
        "lowered_fence": LoweredFence | None,
        "command_id": NotRequired[Id],
    },
)
AdoptedLog.__doc__ = "From where the store follows the log that is there now, and which it lost."


class SkippedEvent(TypedDict):
    """The event that was passed, and why it could not be decoded."""

    instance_id: Id
    reason: str
    cluster_id: str
    topic_id: str
    offset: int
    position: int
    epoch: int
    fault: str
    logged_at_ms: int
    size_bytes: int
    sha256: Sha256
    command_id: NotRequired[Id]
