"""What ends a session of the projector: try again at once, later, or not before something moved."""

from __future__ import annotations

from backup_service.projector.status import Stopped


class StoreMoved(Exception):
    """The row ``log_position`` is not where this session left it: somebody replaced the state."""


class Halt(Exception):
    """The projector applies nothing until the log or the store is another one."""

    def __init__(self, stopped: Stopped) -> None:
        super().__init__(stopped.reason)
        self.stopped = stopped
