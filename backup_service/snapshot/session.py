"""One snapshot of the store at offset S, joined by parallel readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import IsolationLevel, sql

from shared.database import Connection, postgres_faults
from shared.errors import BackupFailedError, LogLost, RestoreInProgress
from shared.instance.migrate import schema_version, tables_of_version
from shared.instance.position import LogPosition, read_position
from shared.instance.tables import TableInfo, list_tables

INSTANCE_SCHEMA = "instance"


@dataclass(frozen=True)
class Snapshot:
    """A transaction that sees the store as it was at ``position.position``."""

    dsn: str
    id: str
    position: LogPosition
    schema_version: int
    tables: tuple[TableInfo, ...]

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """Open another connection that sees exactly the same."""
        with postgres_faults("joining the snapshot"), connect_reader(self.dsn) as conn:
            conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(self.id)))
            _may_take_long(conn)
            yield conn


def connect_reader(dsn: str) -> Connection:
    """Connect for reading in REPEATABLE READ. Raises psycopg.OperationalError."""
    conn: Connection = psycopg.connect(dsn, connect_timeout=10)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.read_only = True
    return conn


@contextmanager
def open_snapshot(dsn: str) -> Iterator[Snapshot]:
    """Begin the snapshot; it ends with the block, and holds vacuum back no longer.

    Raises RestoreInProgress behind an open fence, LogLost when the store has no position.
    """
    with postgres_faults("opening the snapshot"), connect_reader(dsn) as conn:
        position = read_position(conn, INSTANCE_SCHEMA)
        _may_take_long(conn)
        if position.fenced:
            raise RestoreInProgress("a restore has fenced the instance")
        if position.cluster_id is None or position.topic_id is None:
            raise LogLost("the store is not connected to a log yet")
        row = conn.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield Snapshot(
            dsn=dsn,
            id=row[0],
            position=position,
            schema_version=schema_version(conn, INSTANCE_SCHEMA),
            tables=tuple(list_tables(conn, INSTANCE_SCHEMA)),
        )
        conn.rollback()


def check_tables(snapshot: Snapshot) -> None:
    """Refuse a store with tables that no restore would know.

    Leaving them out would lose them in silence, and with them no restore would take the archive.
    Raises BackupFailedError, naming them.
    """
    found = {table.name for table in snapshot.tables}
    known = tables_of_version(snapshot.schema_version)
    if found != known:
        names = ", ".join(sorted(found ^ known))
        raise BackupFailedError(
            f"the schema {INSTANCE_SCHEMA} is not that of its version {snapshot.schema_version}:"
            f" {names}",
            hint="Move tables that are not Secryn's into a schema of their own, and retry.",
        )


def _may_take_long(conn: Connection) -> None:
    # The snapshot's own transaction only waits while its readers work.
    conn.execute("SET idle_in_transaction_session_timeout = 0")
