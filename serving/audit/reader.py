"""Read a service's audit trail out of its event store: a page, all of it, or whether it holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
from psycopg import sql
from psycopg.rows import scalar_row

from serving.audit.query import AuditFilter, AuditQuery, VerifyQuery, cursor_behind
from serving.requester import Requester
from shared.audit import (
    STREAM,
    AuditEntry,
    AuditTrail,
    ChainCheck,
    Checkpoint,
    chain_origin,
    sign_checkpoint,
)
from shared.database import Connection, Pool, postgres_faults
from shared.errors import AuditChainBroken, UnavailableError
from shared.eventstore import EventStore
from shared.messages import SigningKey

log = structlog.get_logger(__name__)

# So many entries are held at once, whatever the trail's length.
BATCH: Final = 500
# A check reads the whole chain: beyond these many at once one waits.
CHECKS_MAX: Final = 2
NOTHING_KEPT: Final = VerifyQuery()

Entry = dict[str, Any]


@dataclass(frozen=True)
class AuditReader:
    """The audit trail of one service, for whoever may read it."""

    store: EventStore
    trail: AuditTrail
    pool: Pool
    signer: SigningKey
    instance_id: UUID
    _checks: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(CHECKS_MAX), repr=False
    )

    @property
    def service(self) -> str:
        """Return whose trail it is."""
        return self.trail.service

    def page(self, query: AuditQuery) -> Entry:
        """Return one page, the newest entry first, and how many entries there are."""
        with postgres_faults("reading the audit trail"), self.pool.connection() as conn:
            found = self._select(conn, query, query.before, query.limit + 1, newest_first=True)
            entries = self.store.version(conn, STREAM)
        more = len(found) > query.limit
        found = found[: query.limit]
        return {
            "service": self.service,
            "entries": found,
            "next_cursor": cursor_behind(found[-1]["seq"]) if more else None,
            "total": entries,
        }

    def lines(self, asked: AuditFilter) -> Iterator[bytes]:
        """Yield the entries that are there now as JSON lines, from the first one; a batch at a time."""
        with postgres_faults("reading the audit trail"), self.pool.connection() as conn:
            end = self.store.version(conn, STREAM) + 1
        after = 0
        while True:
            # Nothing is held while whoever reads this is slow.
            with postgres_faults("reading the audit trail"), self.pool.connection() as conn:
                found = self._select(conn, asked, end, BATCH, after=after)
            yield b"".join(
                json.dumps(entry, ensure_ascii=False).encode("utf-8") + b"\n" for entry in found
            )
            if len(found) < BATCH:
                return
            after = found[-1]["seq"]

    def verify(self, who: Requester, asked: VerifyQuery = NOTHING_KEPT) -> Entry:
        """Check the whole chain, and return what was found; a fault is an entry itself.

        Raises UnavailableError while too many are at it already.
        """
        if not self._checks.acquire(blocking=False):
            raise UnavailableError(
                "the chain is being checked for others already",
                hint="Wait until they have their answer.",
            )
        try:
            report = self._checked(asked)
        finally:
            self._checks.release()
        if not report["intact"]:
            self._tell(report, who)
        return report

    def note_export(self, asked: AuditFilter, who: Requester) -> None:
        """Record that the trail is given away, and which part of it."""
        given = asked.model_dump(mode="json", exclude_none=True)
        entry = AuditEntry(
            "audit.export", "success", who.name, "audit", self.service, who.source,
            details={"filter": given},
        )  # fmt: skip
        self._record(entry, who)

    def _checked(self, asked: VerifyQuery) -> Entry:
        origin = chain_origin(self.instance_id, self.service)
        kept = Checkpoint(origin, asked.size, asked.head) if asked.size and asked.head else None
        check, good, after = ChainCheck({self.signer.public}, kept), True, 0
        while good:
            with postgres_faults("reading the audit trail"), self.pool.connection() as conn:
                batch = self.store.read_stream_behind(conn, STREAM, after, BATCH)
            if not batch:
                break
            good = all(check.add(event.data) for event in batch)
            after = batch[-1].version
        found = check.report()
        checkpoint = Checkpoint(origin, found.entries, found.head)
        return {
            "service": self.service,
            "intact": found.intact,
            "entries": found.entries,
            "head": found.head,
            "bad_seq": found.bad_seq,
            "bad_entry": check.bad_entry,
            "reason": found.reason,
            "checkpoints": found.checkpoints,
            "signed_through": found.signed_through,
            "checkpoint": sign_checkpoint(checkpoint, self.signer) if found.intact else None,
        }

    def _tell(self, report: Entry, who: Requester) -> None:
        log.error("audit.chain_broken", bad_seq=report["bad_seq"], reason=report["reason"])
        entry = AuditEntry(
            "audit.verify", "failure", who.name, "audit", self.service, who.source,
            code=AuditChainBroken.code, message=str(report["reason"]),
            details={"bad_seq": report["bad_seq"]},
        )  # fmt: skip
        self._record(entry, who)

    def _record(self, entry: AuditEntry, who: Requester) -> None:
        with postgres_faults("recording the audit trail"), self.pool.connection() as conn:
            self.trail.record(conn, entry, who.correlation_id)

    def _select(
        self,
        conn: Connection,
        asked: AuditFilter,
        before: int | None,
        limit: int,
        *,
        after: int = 0,
        newest_first: bool = False,
    ) -> list[Entry]:
        conditions, values = asked.conditions()
        conditions = ["stream = %(stream)s", "version > %(after)s", *conditions]
        if before is not None:
            conditions.append("version < %(before)s")
        text = (
            "SELECT data FROM {schema}.events WHERE " + " AND ".join(conditions)
            + " ORDER BY version " + ("DESC" if newest_first else "ASC") + " LIMIT %(limit)s"
        )  # fmt: skip
        statement = sql.SQL(text).format(schema=sql.Identifier(self.store.schema))
        more = {"stream": STREAM, "after": after, "before": before, "limit": limit}
        with conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(statement, values | more).fetchall()
