"""Is this the log that the store was folded from? What its name and its ends say of that."""

from __future__ import annotations

from shared.errors import LogLost
from shared.instance.position import LogPosition
from shared.kafka import LogIdentity


def check_identity(position: LogPosition, log: LogIdentity) -> None:
    """Raise LogLost when the store was folded from another log than ``log``."""
    if (position.cluster_id, position.topic_id) != (log.cluster_id, log.topic_id):
        raise LogLost(
            f"the store was folded from topic {position.topic_id} of cluster"
            f" {position.cluster_id}; here is topic {log.topic_id} of cluster {log.cluster_id}"
        )


def check_bounds(position: LogPosition, beginning: int, high_watermark: int) -> None:
    """Raise LogLost when the log does not reach to the position, or begins after it."""
    if not beginning <= position.position <= high_watermark:
        raise LogLost(
            f"the store is at offset {position.position}, the log holds {beginning} to"
            f" {high_watermark}"
        )
