"""Notice to the users of the platforms: before a restore begins, and when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from restore_service import events as ev
from restore_service.events import Restore
from restore_service.run import Run, Step
from shared.eventstore import NewEvent
from shared.messages.topics import RESTORE_EVENTS

POLL_S = 0.2


def give_notice(
    run: Run, lead_s: int, check_planned: Callable[[datetime], None] = lambda _: None
) -> None:
    """Tell that the restore or the undo begins, and when; then wait until that moment.

    Without a text in the settings nothing is told. ``check_planned`` gets the moment before anybody
    is told of it, and may raise. Raises Cancelled, Interrupted.
    """
    settings = run.context.settings.restore
    if settings.notice_text is None:
        return
    clock = run.context.clock
    planned = clock.now() + timedelta(seconds=lead_s)
    check_planned(planned)
    notice = {"text": settings.notice_text, "planned_at": planned.isoformat()}
    run.step(Step.NOTICE)
    run.note(ev.NOTICE_GIVEN, {"notice": notice})
    while clock.now() < planned:
        run.look()
        time.sleep(POLL_S)


def notice_over(restore: Restore, outcome: str) -> list[NewEvent]:
    """Return the event that ends the notice of ``restore``, where one was given."""
    if "notice" not in restore.facts:
        return []
    data = {"restore_id": restore.restore_id, "outcome": outcome}
    return [NewEvent(ev.NOTICE_OVER, data, RESTORE_EVENTS)]
