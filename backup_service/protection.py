"""How much a loss would cost now: the newest backup that counts, and what came since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from backup_service.context import BackupContext
from backup_service.retention.standing import Standing, standing_of
from shared.database import Connection, postgres_faults
from shared.errors import LogLost, UnavailableError
from shared.instance.position import LogPosition, read_position
from shared.messages.topics import INSTANCE_EVENTS

# So many failed to open or were damaged in a row: then a backup is made, and nothing is compared.
_LOOK_AT: Final = 20


def recovery_point(
    context: BackupContext, conn: Connection, end: int | None = None
) -> dict[str, Any]:
    """Return what a restore of the newest backup that counts would lose: events, and seconds.

    Events are offsets of the log, transaction markers among them: so many or fewer. ``end`` is
    the log's end; without it, what the store has is the end. Nothing changed since: 0 s. None
    stands for what cannot be told: no backup counts, or it is of another log.
    """
    backup = context.history.newest_counting(conn)
    if backup is None:
        return {"backup_id": None, "events": None, "seconds": None}
    try:
        events = events_since(read_position(conn), backup, end)
    except LogLost:
        events = None
    age = context.clock.now() - datetime.fromisoformat(backup["started_at"])
    seconds = 0 if events == 0 else max(0, int(age.total_seconds()))
    return {"backup_id": backup["backup_id"], "events": events, "seconds": seconds}


def events_since(
    position: LogPosition, backup: Mapping[str, Any], end: int | None = None
) -> int | None:
    """Return how many offsets of the log ``backup`` has not; None when it is of another log."""
    if (backup["cluster_id"], backup["topic_id"]) != (position.cluster_id, position.topic_id):
        return None
    return max(0, max(position.position, end or 0) - int(backup["offset"]))


def newest_usable(context: BackupContext, conn: Connection) -> dict[str, Any] | None:
    """Return the newest backup that counts, or will when its waiting key is viewed."""
    good = (Standing.COUNTS, Standing.KEY_WAITS)
    newest = context.history.newest_created(conn, _LOOK_AT)
    return next((backup for backup in newest if standing_of(backup) in good), None)


def unchanged_since(context: BackupContext) -> str | None:
    """Return the usable backup that has everything up to the log's end, or None.

    Where anything is in doubt it is None: a backup too many loses nothing.
    """
    topic = context.kafka.topic(INSTANCE_EVENTS)
    try:
        with context.kafka.admin() as admin:
            end = admin.high_watermark(topic)
        with postgres_faults("comparing"), context.pool.connection() as conn:
            position = read_position(conn)
            backup = newest_usable(context, conn)
    except (UnavailableError, LogLost):
        return None
    if backup is None or position.fenced or backup["epoch"] != position.epoch:
        return None
    return str(backup["backup_id"]) if events_since(position, backup, end) == 0 else None
