"""Does the store stand still? What a look finds is held against what earlier looks found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import psycopg
import structlog

from backup_service.snapshot.session import INSTANCE_SCHEMA
from shared.database import postgres_faults
from shared.errors import LogLost, SecrynError
from shared.instance.position import LogPosition, read_position
from shared.kafka import LogAdmin
from shared.messages.topics import INSTANCE_EVENTS

if TYPE_CHECKING:
    from backup_service.context import BackupContext

# A store that has not moved for so long while the log has more for it stands still. A batch that is
# folded takes far less; a rebuild takes longer, and behind its fence nothing is asked.
STILL_AFTER_S: Final = 10.0
# How often a replica looks by itself, so that whoever asks for the first time is told.
EVERY_S: Final = 5.0

log = structlog.get_logger(__name__)


class Standstill:
    """Where the store was behind the log, and since when; any thread may look."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now: Final = now
        self._lock = threading.Lock()
        self._seen: tuple[LogPosition, float] | None = None

    def note(self, behind: LogPosition | None, read_at: float) -> bool:
        """Note where a look found the store behind the log, and tell whether it stands still.

        None: it was not behind, or could not be asked. ``read_at`` is when its position was read,
        by ``now``: what the look waited for since, for Kafka say, is no standstill.
        """
        with self._lock:
            if behind is None:
                self._seen = None
                return False
            if self._seen is None or not self._seen[0].same_place(behind):
                self._seen = (behind, self.now())
            return read_at - self._seen[1] >= STILL_AFTER_S


def is_behind(position: LogPosition, admin: LogAdmin, topic: str) -> bool:
    """Tell whether the log has what the store could have: nothing behind an open transaction.

    Nor behind an open fence: there it waits for the end of the restore, or is rebuilt past it.
    """
    return not position.fenced and position.position < admin.last_stable_offset(topic)


class StandstillWatch:
    """The thread that looks; every replica has one."""

    def __init__(self, context: BackupContext) -> None:
        self._context = context

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop``; lost parts are waited for, and what was seen before is forgotten."""
        while not stop.is_set():
            try:
                with self._context.kafka.admin() as admin:
                    while not stop.wait(EVERY_S):
                        self._look(admin)
            except (SecrynError, psycopg.Error) as error:
                # Nobody who asks is told less than before, and whoever looks ends nothing.
                self._context.standstill.note(None, 0.0)
                log.warning("store.unwatched", reason=type(error).__name__)
                stop.wait(EVERY_S)

    def _look(self, admin: LogAdmin) -> None:
        context = self._context
        try:
            with postgres_faults("reading the position"), context.pool.connection() as conn:
                position, read_at = read_position(conn, INSTANCE_SCHEMA), context.standstill.now()
        except LogLost:
            # The projector has not made the schema yet.
            return
        behind = is_behind(position, admin, context.kafka.topic(INSTANCE_EVENTS))
        context.standstill.note(position if behind else None, read_at)
