"""The scratch schema of a rehearsal: there while it is worked in, gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from restore_service.context import RestoreContext
from restore_service.staging import (
    drop_if_possible,
    leftover_rehearsals,
    owner_connection,
    rehearsal_name,
)
from shared.database import Connection, postgres_faults

log = structlog.get_logger(__name__)


@contextmanager
def scratch_schema(context: RestoreContext, rehearsal_id: str) -> Iterator[tuple[Connection, str]]:
    """Yield a connection of the owner and the name of a schema to make; drop that at the end.

    A rehearsal has one at a time. Raises PostgresUnavailable.
    """
    try:
        with (
            postgres_faults("rehearsing"),
            owner_connection(context.settings.postgres.dsn, rehearsing=True) as conn,
        ):
            yield conn, rehearsal_name(rehearsal_id)
    finally:
        drop_scratch(context, rehearsal_id)


def drop_scratch(context: RestoreContext, rehearsal_id: str) -> None:
    """Drop what is left of one rehearsal. Raises PostgresUnavailable."""
    with (
        postgres_faults("dropping the scratch schema"),
        owner_connection(context.settings.postgres.dsn) as conn,
    ):
        schema = rehearsal_name(rehearsal_id)
        if schema in leftover_rehearsals(conn):
            drop_if_possible(conn, schema)


def drop_all_but(context: RestoreContext, needed: set[str]) -> None:
    """Drop the scratch schemas of all rehearsals but those. Raises PostgresUnavailable."""
    kept = {rehearsal_name(rehearsal_id) for rehearsal_id in needed}
    with (
        postgres_faults("dropping scratch schemas"),
        owner_connection(context.settings.postgres.dsn) as conn,
    ):
        for schema in set(leftover_rehearsals(conn)) - kept:
            if drop_if_possible(conn, schema):
                log.warning("rehearsal.dropped", schema=schema)
