"""What one service may ask of the other, or hears of it: types of messages, and permissions."""

from __future__ import annotations

from typing import Final

CANCEL_RUNNING: Final = "com.secryn.backup.cancel_running.v1"
CANCEL_PERMISSION: Final = "cancel_running_backup"

RESTORE_REQUESTED: Final = "com.secryn.restore.requested.v1"
RESTORE_CHECKED: Final = "com.secryn.restore.checked.v1"
RESTORE_COMPLETED: Final = "com.secryn.restore.completed.v1"
RESTORE_ABORTED: Final = "com.secryn.restore.aborted.v1"
RESTORE_FAILED: Final = "com.secryn.restore.failed.v1"
RESTORE_CANCELLED: Final = "com.secryn.restore.cancelled.v1"
RESTORE_APPROVED: Final = "com.secryn.restore.approved.v1"
RESTORE_EXPIRED: Final = "com.secryn.restore.expired.v1"
APPROVAL_POLICY_CHANGED: Final = "com.secryn.restore.approval_policy_changed.v1"
REHEARSAL_REQUESTED: Final = "com.secryn.restore.rehearsal_requested.v1"
REHEARSAL_CHECKED: Final = "com.secryn.restore.rehearsal_checked.v1"
REHEARSED: Final = "com.secryn.restore.rehearsed.v1"
REHEARSAL_FAILED: Final = "com.secryn.restore.rehearsal_failed.v1"
REHEARSAL_CANCELLED: Final = "com.secryn.restore.rehearsal_cancelled.v1"
REHEARSAL_SKIPPED: Final = "com.secryn.restore.rehearsal_skipped.v1"
