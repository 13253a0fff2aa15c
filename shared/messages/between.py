"""What one service may ask of the other, or hears of it: types of messages, and permissions."""

from __future__ import annotations

from typing import Final

CANCEL_RUNNING: Final = "com.secryn.backup.cancel_running.v1"
CANCEL_PERMISSION: Final = "cancel_running_backup"

REHEARSED: Final = "com.secryn.restore.rehearsed.v1"
REHEARSAL_FAILED: Final = "com.secryn.restore.rehearsal_failed.v1"

# What becomes of a restore, for whoever keeps its backup meanwhile.
RESTORE_REQUESTED: Final = "com.secryn.restore.requested.v1"
RESTORE_COMPLETED: Final = "com.secryn.restore.completed.v1"
RESTORE_ABORTED: Final = "com.secryn.restore.aborted.v1"
RESTORE_FAILED: Final = "com.secryn.restore.failed.v1"
RESTORE_CANCELLED: Final = "com.secryn.restore.cancelled.v1"
RESTORE_EXPIRED: Final = "com.secryn.restore.expired.v1"
