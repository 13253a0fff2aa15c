"""What was loaded, compared with the archive, every row of it, while its indexes are built."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import psycopg
import structlog

from restore_service.hashing import Hashers, table_bytes
from restore_service.indexing import indexes_built
from restore_service.loading import Loaded
from restore_service.record import Record
from restore_service.staging import compare_with_manifest
from shared.database import Connection
from shared.errors import ArchiveMalformed
from shared.instance.digest import InstanceDigest, TableState, digest_table
from shared.instance.migrate import create_constraints, schema_version
from shared.instance.tables import list_tables

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Compared:
    """The state that was found, and by what: the archive's rows in order, or their digest."""

    found: InstanceDigest
    by: Literal["order", "digest"]


class Stepping(Protocol):
    """A restore or a rehearsal: it shows how far it is, and may raise to give up."""

    def step(self, step: Any, total_bytes: int | None = None) -> None:
        """Begin a step."""

    def advance(self, done_bytes: int, rows: int = 0) -> None:
        """Show how far the step is."""

    def look(self) -> None:
        """Go on, or raise."""


def compare_loaded(
    run: Stepping, steps: Any, conn: Connection, schema: str, loaded: Loaded, *,
    hashers: Hashers, record: Record | None = None,
) -> Compared:  # fmt: skip
    """Compare a committed schema with what was loaded, and complete it.

    The rows are compared with the manifest. Where a ``record`` says that those of this very file
    were, and it is large, they are compared with the file, in order. ``steps`` is the enumeration
    that has COMPARE and INDEXES. Raises ManifestMismatch, ArchiveMalformed for rows that break a
    rule of the schema, and what the run does.
    """
    checked = loaded.checked
    version = checked.facts["schema_version"]
    try:
        with indexes_built(hashers.connect, schema, version) as wait_for_indexes:
            found = None
            if record is not None and record.proves(checked) and hashers.started:
                found = _in_order(run, steps, conn, schema, loaded, hashers=hashers)
            compared = (
                Compared(found, "order")
                if found is not None
                else Compared(_by_digest(run, steps, conn, schema, hashers), "digest")
            )
            compare_with_manifest(compared.found, checked.manifest)
            run.step(steps.INDEXES)
            wait_for_indexes(run.look)
        with conn.transaction():
            create_constraints(conn, schema, version)
    except psycopg.IntegrityError as error:
        # The server's own message repeats values.
        raise ArchiveMalformed(
            f"the archive's rows break a rule of the schema ({type(error).__name__})"
        ) from None
    return compared


def _by_digest(
    run: Stepping, steps: Any, conn: Connection, schema: str, hashers: Hashers
) -> InstanceDigest:
    run.step(steps.COMPARE, table_bytes(conn, schema))
    return hashers.digest(conn, schema, run.advance)


def _in_order(
    run: Stepping, steps: Any, conn: Connection, schema: str, loaded: Loaded, *, hashers: Hashers
) -> InstanceDigest | None:
    """Return the manifest's own digests for what came out as it went in; None where it did not.

    What is not loaded as it stands in the archive, the keyring, has a digest of its own.
    """
    run.step(steps.COMPARE, sum(chapter.size_bytes for chapter in loaded.chapters))
    different = hashers.differing(conn, schema, loaded.chapters, run.advance)
    if different is not None:
        log.info("restore.another_order", table=different.table, rows=different.rows)
        return None
    manifest, rows = loaded.checked.manifest, Counter[str]()
    for chapter in loaded.chapters:
        rows[chapter.table] += chapter.rows
    states: dict[str, TableState] = {}
    for table in list_tables(conn, schema):
        if table.name in rows:
            states[table.name] = TableState(rows[table.name], manifest.tables[table.name].digest)
        else:
            digest = digest_table(conn, table)
            states[table.name] = TableState(digest.rows, digest.hexdigest(table.name))
    return InstanceDigest(schema_version(conn, schema), states)
