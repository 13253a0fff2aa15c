"""What one service may ask of the other: the types of the messages, and the permissions."""

from __future__ import annotations

from typing import Final

CANCEL_RUNNING: Final = "com.secryn.backup.cancel_running.v1"
CANCEL_PERMISSION: Final = "cancel_running_backup"
