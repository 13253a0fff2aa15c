"""One session: a connection to the store, a reader of the log, and the fold between them.

Nothing is repaired here. What does not fit ends the session with an exception, and the next one
begins with what is durable.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import psycopg
import structlog

from backup_service.projector.faults import Halt, StoreMoved
from backup_service.projector.logcheck import check_log
from backup_service.projector.segment import Segment, read_segment
from backup_service.projector.status import ProjectorStatus, Stopped
from backup_service.projector.store import Advance, Store
from shared.errors import Interrupted, MessageUnreadable, NeedsArchive
from shared.instance.history import ClosedAborted, ClosedRestored, Fence, FenceTracker, Opened
from shared.instance.position import LogPosition
from shared.instance.reading import Announced, read_announced
from shared.instance.replay import read_spans, replay, unstorable
from shared.instance.retrace import BEGINNING, Crossing, Stretch, retrace
from shared.instance.whichlog import check_bounds, check_identity
from shared.kafka import LogAdmin, LogReader, Record
from shared.messages import IssuerRegistry

# How often the log's identity and end, and the store's row, are looked at again.
LOOK_INTERVAL_S: Final = 1.0
_BEHIND_FENCE_HINT: Final = (
    "It is a restore event of another release: run the projector of that one, or restore a backup."
)

log = structlog.get_logger(__name__)


class Session:
    """Follow the log until told to stop, or until something ends the session."""

    def __init__(
        self,
        store: Store,
        admin: LogAdmin,
        reader: LogReader,
        issuers: IssuerRegistry,
        status: ProjectorStatus,
        *,
        batch_events: int,
        poll_timeout_s: float,
    ) -> None:
        self._store = store
        self._admin = admin
        self._reader = reader
        self._issuers = issuers
        self._status = status
        self._batch_events = batch_events
        self._poll_timeout_s = poll_timeout_s
        self._looked_at = time.monotonic()
        self._stop = threading.Event()
        # Events that were read behind the open fence, from F + 1 on.
        self._behind_fence = 0

    def run(self, stop: threading.Event) -> None:
        """Apply what the log holds and what comes, until ``stop``.

        Raises LogLost, Halt, StoreMoved, and what the connections raise.
        """
        self._stop = stop
        high_watermark = check_log(self._store.position, self._admin, self._reader)
        self._reader.seek(self._store.position.position)
        self._tracker = FenceTracker.at(self._store.position)
        log.info("projector.following", **_facts(self._store.position))
        self._tell(high_watermark=high_watermark)
        while not stop.is_set():
            batch = self._reader.poll(self._batch_events, self._poll_timeout_s)
            if self._tracker.fence is None:
                self._follow(batch.records, batch.next_offset)
            else:
                self._scan(batch.records, batch.next_offset)
            self._look()

    def _follow(self, records: list[Record], next_offset: int) -> None:
        if next_offset == self._store.position.position:
            return
        segment = read_segment(
            records, next_offset, self._store.position, self._issuers, self._tracker
        )
        self._apply(segment)
        if segment.stopped is not None:
            raise Halt(segment.stopped)
        if segment.opened is not None:
            self._raise_fence(segment.opened, segment.opened_last)
        self._tell()

    def _apply(self, segment: Segment) -> None:
        if segment.advance.next_offset == self._store.position.position:
            return
        try:
            result = self._store.apply(segment.events, segment.advance)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            self._apply_in_halves(segment, error)
            return
        self._status.count(applied=result.applied, rejected=result.rejected)

    def _apply_in_halves(self, segment: Segment, error: psycopg.DatabaseError) -> None:
        """Find the one event that the store refuses, and apply every event before it."""
        if len(segment.events) <= 1:
            offset = segment.events[0].offset if segment.events else None
            found = unstorable(error, offset)
            raise Halt(Stopped(found.code, offset, found.message, found.hint)) from error
        for half in segment.halves():
            self._apply(half)

    def _raise_fence(self, opened: Opened, advance: Advance) -> None:
        self._store.raise_fence(opened.fence, advance)
        log.warning("projector.fenced", **_fence_facts(opened.fence))
        self._behind_fence = 0
        self._reader.seek(advance.next_offset)

    def _scan(self, records: list[Record], next_offset: int) -> None:
        """Look behind the open fence for its end; nothing is applied."""
        for record in records:
            try:
                announced = read_announced(record, self._issuers)
            except MessageUnreadable as error:
                stopped = Stopped(error.code, record.offset, error.message, _BEHIND_FENCE_HINT)
                raise Halt(stopped) from error
            if announced is not None and self._close(announced):
                return
            self._behind_fence += 1

    def _close(self, announced: Announced) -> bool:
        """Close the fence if this is its end; tell whether it was."""
        verdict = self._tracker.see(announced.offset, announced.event)
        if isinstance(verdict, ClosedAborted):
            self._store.lower_fence(self._tracker.highest_fence_no)
            log.warning("projector.fence_aborted", **_fence_facts(verdict.fence))
        elif isinstance(verdict, ClosedRestored):
            self._go_past(verdict, announced)
            log.warning("projector.restored", **_facts(self._store.position))
        else:
            return False
        self._reader.seek(self._store.position.position)
        self._tell()
        return True

    def _go_past(self, closed: ClosedRestored, announced: Announced) -> None:
        """Go on behind R, in the state that the cut-over put here."""
        row = self._store.look()
        if (row.fence_no, row.epoch) != (closed.fence.fence_no, closed.event.epoch):
            if not row.same_place(self._store.position):
                raise StoreMoved
            self._rebuild(closed, announced)
            return
        self._store.position = row
        advance = Advance(closed.offset + 1, (announced.offset, announced.event_id))
        advance.skipped["fenced"] = self._behind_fence
        self._store.lower_fence(self._tracker.highest_fence_no, advance)

    def _rebuild(self, closed: ClosedRestored, announced: Announced) -> None:
        """Go past a restore that this state did not live through: it was rebuilt from the log.

        The log alone leads there if it is whole and the restore's source was made of it. All rows
        are made anew in one transaction: a reader sees the state before or the one after.
        """
        stretches = self._way_past(closed)
        if stretches is None:
            raise Halt(_needs_archive(closed))
        log.warning("projector.rebuilding", **_fence_facts(closed.fence))
        try:
            self._store.rebuild(
                lambda conn, schema: replay(
                    conn, schema, self._reader, self._issuers, stretches, on_progress=self._live_on
                ),
                Advance(closed.offset + 1, (announced.offset, announced.event_id)),
                epoch=closed.event.epoch,
                highest_fence_no=self._tracker.highest_fence_no,
            )
        except MessageUnreadable as error:
            # An event on the way that was skipped by hand, say: the backup was made without it.
            log.warning("projector.not_rebuilt", error=type(error).__name__)
            raise Halt(_needs_archive(closed)) from error

    def _way_past(self, closed: ClosedRestored) -> list[Stretch] | None:
        behind, position = closed.offset + 1, self._store.position
        if self._admin.beginning_offset(self._reader.topic) > 0:
            return None
        spans = read_spans(self._reader, self._issuers, 0, behind, self._live_on)
        try:
            name = (str(position.cluster_id), str(position.topic_id))
            return retrace(name, BEGINNING, spans, behind)
        except Crossing:
            return None

    def _live_on(self, _: int) -> None:
        if self._stop.is_set():
            raise Interrupted("the projector stopped in the middle of a rebuild")
        self._status.live()

    def _look(self) -> None:
        """Once a second: is it still this log, is the row still where we left it?"""
        now = time.monotonic()
        if now - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now
        check_identity(self._store.position, self._admin.log_identity(self._reader.topic))
        high_watermark = self._admin.high_watermark(self._reader.topic)
        check_bounds(self._store.position, 0, high_watermark)
        row = self._store.look()
        if not row.same_place(self._store.position):
            # A cut-over raises the epoch behind the fence that this session waits at.
            cut_over = (row.position, row.fence_no) == (
                self._store.position.position,
                self._store.position.fence_no,
            )
            if not (cut_over and row.fenced):
                raise StoreMoved
            self._store.position = row
        self._tell(high_watermark=high_watermark)

    def _tell(self, high_watermark: int | None = None) -> None:
        position = self._store.position
        state = "fenced" if position.fenced else "following"
        self._status.follow(state, position, high_watermark)


def _needs_archive(closed: ClosedRestored) -> Stopped:
    return Stopped(
        NeedsArchive.code,
        closed.offset,
        f"the log alone does not lead past restore {closed.event.restore_id}, "
        f"which came from backup {closed.event.backup_id}",
        NeedsArchive.hint,
        backup_id=str(closed.event.backup_id),
    )


def _fence_facts(fence: Fence) -> dict[str, object]:
    return {
        "fence_no": fence.fence_no,
        "restore_id": str(fence.restore_id),
        "fence_offset": fence.offset,
    }


def _facts(position: LogPosition) -> dict[str, object]:
    return {"position": position.position, "epoch": position.epoch, "fence_no": position.fence_no}
