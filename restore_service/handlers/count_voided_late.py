"""What a restore made void, counted when its end is on the log at last.

Whoever completes a restore in the place of a process that died, or while Kafka is away, cannot tell:
what stands before its end is not known before that has an offset. Its report gets it then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from restore_service import events as ev
from restore_service.context import SERVICE, RestoreContext
from restore_service.voided import voided_of
from shared.errors import ConcurrencyConflict, NotVoided, SecrynError, UnavailableError
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import RESTORE_EVENTS


def count_voided_late(context: RestoreContext) -> None:
    """Count what the last restore made void, if its end did not; once, or say why it cannot be."""
    with context.transaction("looking for a restore whose voided events are not counted") as conn:
        last = context.history.last_restored(conn)
    if last is None or last.facts["voided"] is not None or last.facts.get("voided_fault"):
        return
    voided: dict[str, Any] | None = None
    fault = None
    try:
        voided = voided_of(context, last.restore_id)
    except (UnavailableError, NotVoided):
        # Its end is not on the log yet: the next recovery looks again.
        return
    except SecrynError as error:
        fault = error.code
    data = {"restore_id": last.restore_id, "voided": voided, "voided_fault": fault}
    meta = EventMeta(SERVICE, last.facts["correlation_id"], last.restore_id)
    # Whoever appended to it meanwhile: the next recovery finds it again.
    with (
        suppress(ConcurrencyConflict),
        context.transaction("noting what a restore made void") as conn,
    ):
        event = NewEvent(ev.VOIDED_COUNTED, data, RESTORE_EVENTS)
        context.history.append(conn, last.restore_id, last.version, [event], meta)
