"""Notice to the users of the platforms: before a restore begins, and when it is over."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from restore_service import events as ev
from restore_service.events import Restore
from restore_service.run import Run, Step
from shared.eventstore import NewEvent
from shared.messages.topics import RESTORE_EVENTS

POLL_S = 0.2


def give_notice(run: Run) -> None:
    """Tell that the restore begins, and when; then wait until that moment.

    Without a text in the settings nothing is told. Raises Cancelled, Interrupted.
    """
    settings = run.context.settings.restore
    if settings.notice_text is None:
        return
    planned = datetime.now(UTC) + timedelta(seconds=settings.notice_lead_s)
    notice = {"text": settings.notice_text, "planned_at": planned.isoformat()}
    run.step(Step.NOTICE)
    run.note(ev.NOTICE_GIVEN, {"notice": notice})
    while datetime.now(UTC) < planned:
        run.look()
        time.sleep(POLL_S)


def notice_over(restore: Restore, outcome: str) -> list[NewEvent]:
    """Return the event that ends the notice of ``restore``, where one was given."""
    if "notice" not in restore.facts:
        return []
    data = {"restore_id": restore.restore_id, "outcome": outcome}
    return [NewEvent(ev.NOTICE_OVER, data, RESTORE_EVENTS)]
