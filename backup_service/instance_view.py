"""What is in the instance, read in one transaction."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from backup_service.context import BackupContext
from backup_service.snapshot.session import INSTANCE_SCHEMA, connect_reader
from backup_service.standstill import is_behind
from shared.database import postgres_faults
from shared.instance.digest import digest_schema
from shared.instance.position import read_position
from shared.instance.tables import list_tables
from shared.kafka import PATIENCE_S
from shared.messages.topics import INSTANCE_EVENTS


def show_instance(context: BackupContext) -> dict[str, Any]:
    """Return ids, position, epoch, fence and the number of rows of every table."""
    place = context.settings.place
    with (
        postgres_faults("reading the instance"),
        connect_reader(context.settings.postgres.dsn) as conn,
    ):
        position = read_position(conn, INSTANCE_SCHEMA)
        rows = {}
        for table in list_tables(conn, INSTANCE_SCHEMA):
            found = conn.execute(
                sql.SQL("SELECT count(*) FROM {}").format(table.identifier)
            ).fetchone()
            rows[table.name] = found[0] if found else 0
        conn.rollback()
    return {
        "instance_id": str(place.instance_id),
        "environment": place.environment,
        "environment_kind": place.environment_kind,
        "position": position.position,
        "epoch": position.epoch,
        "fence": None
        if not position.fenced
        else {"restore_id": str(position.fence_restore_id), "offset": position.fence_offset},
        "skipped": position.skipped,
        "tables": rows,
    }


def digest_instance(context: BackupContext) -> dict[str, Any]:
    """Return the canonical digest of the whole state at one offset."""
    with (
        postgres_faults("computing the digest"),
        connect_reader(context.settings.postgres.dsn) as conn,
    ):
        position = read_position(conn, INSTANCE_SCHEMA)
        found = digest_schema(conn, INSTANCE_SCHEMA)
        conn.rollback()
    return {
        "instance_id": str(context.settings.place.instance_id),
        "digest": found.digest,
        "offset": position.position,
        "epoch": position.epoch,
        "schema_version": found.schema_version,
        "tables": {
            name: {"rows": table.rows, "digest": table.digest}
            for name, table in found.tables.items()
        },
    }


def show_status(context: BackupContext, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Return how far the store is behind the log, and whether it stands still there.

    Raises KafkaUnavailable, after ``patience_s``.
    """
    with postgres_faults("reading the position"), context.pool.connection() as conn:
        position, read_at = read_position(conn, INSTANCE_SCHEMA), context.standstill.now()
    topic = context.kafka.topic(INSTANCE_EVENTS)
    with context.kafka.within(patience_s).admin() as admin:
        end, log = admin.high_watermark(topic), admin.log_identity(topic)
        lost = (log.cluster_id, log.topic_id) != (position.cluster_id, position.topic_id)
        behind = not lost and position.position < end and is_behind(position, admin, topic)
    return {
        "position": position.position,
        "high_watermark": end,
        "log_lost": lost,
        # How far one log is ahead of a place on another one is no number.
        "lag": None if lost else max(0, end - position.position),
        "epoch": position.epoch,
        "fenced": position.fenced,
        "stands_still": context.standstill.note(position if behind else None, read_at),
    }
