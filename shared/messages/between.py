"""What one service may ask of the other, or hears of it: types of messages, and permissions."""

from __future__ import annotations

from typing import Final

CANCEL_RUNNING: Final = "com.secryn.backup.cancel_running.v1"
CANCEL_PERMISSION: Final = "cancel_running_backup"

RESTORE_COMPLETED: Final = "com.secryn.restore.completed.v1"
REHEARSED: Final = "com.secryn.restore.rehearsed.v1"
REHEARSAL_FAILED: Final = "com.secryn.restore.rehearsal_failed.v1"
