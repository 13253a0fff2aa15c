"""What was loaded, compared row by row with the manifest, while its indexes are built."""

from __future__ import annotations

from typing import Any, Protocol

import psycopg

from restore_service.checks import CheckedArchive
from restore_service.hashing import Hashers, table_bytes
from restore_service.indexing import indexes_built
from restore_service.staging import compare_with_manifest
from shared.database import Connection
from shared.errors import ArchiveMalformed
from shared.instance.digest import InstanceDigest
from shared.instance.migrate import create_constraints


class Stepping(Protocol):
    """A restore or a rehearsal: it shows how far it is, and may raise to give up."""

    def step(self, step: Any, total_bytes: int | None = None) -> None:
        """Begin a step."""

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        """Show how far the step is."""

    def look(self) -> None:
        """Go on, or raise."""


def compare_loaded(
    run: Stepping, steps: Any, conn: Connection, schema: str, checked: CheckedArchive, *,
    hashers: Hashers,
) -> InstanceDigest:  # fmt: skip
    """Compare a committed schema with its manifest and complete it; return its digest.

    ``steps`` is the enumeration that has COMPARE and INDEXES. Raises ManifestMismatch,
    ArchiveMalformed for rows that break a rule of the schema, and what the run does.
    """
    version = checked.facts["schema_version"]
    run.step(steps.COMPARE, table_bytes(conn, schema))
    try:
        with indexes_built(hashers.connect, schema, version) as wait_for_indexes:
            found = hashers.digest(conn, schema, run.advance)
            compare_with_manifest(found, checked.manifest)
            run.step(steps.INDEXES)
            wait_for_indexes(run.look)
        with conn.transaction():
            create_constraints(conn, schema, version)
    except psycopg.IntegrityError as error:
        # The server's own message repeats values.
        raise ArchiveMalformed(
            f"the archive's rows break a rule of the schema ({type(error).__name__})"
        ) from None
    return found
