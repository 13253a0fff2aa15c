"""What a restore brought and is held back: told once, until somebody says a word."""

from __future__ import annotations

from contextlib import suppress

import structlog

from backup_service import events as ev
from backup_service.configuration.names import STANDING
from backup_service.configuration.reading import read_configured
from backup_service.context import SERVICE, BackupContext
from shared.archive.age import recipient_fingerprint
from shared.database import postgres_faults
from shared.errors import ConcurrencyConflict, LogLost
from shared.eventstore import EventMeta, NewEvent
from shared.messages.topics import BACKUP_EVENTS
from shared.standing.setting import StandingSetting

log = structlog.get_logger(__name__)


def watch_confirmations(context: BackupContext) -> None:
    """Append for each setting that it waits for a confirmation, if that is news.

    Raises UnavailableError.
    """
    for model in STANDING.values():
        with suppress(ConcurrencyConflict, LogLost):
            _watch(context, model)


def awaiting(context: BackupContext) -> dict[str, str]:
    """Return which settings wait for a confirmation, and where each came from."""
    with postgres_faults("looking for what waits"), context.pool.connection() as conn:
        found = {
            name: read_configured(conn, context.store, model) for name, model in STANDING.items()
        }
    return {name: str(one.origin) for name, one in found.items() if one.awaits_confirmation}


def _watch(context: BackupContext, model: type[StandingSetting]) -> None:
    with postgres_faults("looking for what waits"), context.pool.connection() as conn:
        found = read_configured(conn, context.store, model)
        if not found.awaits_confirmation:
            return
        stream = f"confirmation-{model.SHORT}"
        last = context.store.last(conn, stream)
        if (
            last is not None
            and last.data["etag"] == found.etag
            and last.data["origin"] == found.origin
        ):
            return
        facts = {
            "name": model.SHORT,
            "origin": found.origin,
            "etag": found.etag,
            "epoch": found.epoch,
            "paused": found.paused,
            "waiting_recipients": sorted(map(recipient_fingerprint, found.waiting_recipients)),
        }
        meta = EventMeta(SERVICE, f"confirmation-{model.SHORT}-{found.epoch}")
        event = NewEvent(ev.CONFIRMATION_AWAITED, facts, BACKUP_EVENTS)
        context.store.append(conn, stream, 0 if last is None else last.version, [event], meta)
    log.warning("configuration.confirmation_awaited", **facts)
