"""When the instance may be replaced: asked at the request, before a notice, and before the fence."""

from __future__ import annotations

from datetime import datetime

from restore_service.settings import RestoreSettings
from shared.errors import OutsideWindow


def check_window(
    settings: RestoreSettings, reason: str | None, moment: datetime, hint: str | None = None
) -> None:
    """Raise OutsideWindow where the instance may not be replaced at ``moment`` without a reason."""
    if reason is not None or settings.in_window(moment):
        return
    raise OutsideWindow(
        f"restores begin in the windows {', '.join(settings.windows)} ({settings.window_zone}), "
        f"and this one would at {moment:%F %T} UTC",
        hint=hint,
    )
