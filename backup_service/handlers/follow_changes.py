"""So many events since the last backup: another one, between the ticks."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from backup_service import events as ev
from backup_service.configuration.reading import read_configured
from backup_service.configuration.schedule import Schedule
from backup_service.context import BackupContext
from backup_service.handlers.request_backup import store_request
from backup_service.handlers.run_schedule import ACTOR, schedule_requester
from backup_service.protection import events_since, newest_usable
from backup_service.schedule.taken import change_command
from shared.crashpoints import CrashPoint
from shared.database import postgres_faults
from shared.errors import ConcurrencyConflict, LogLost
from shared.eventstore import EventMeta, NewEvent, StoredEvent
from shared.instance.position import read_position
from shared.messages.topics import BACKUP_EVENTS

TAKING = CrashPoint("schedule.change.uncommitted")
TAKEN = CrashPoint("schedule.change.committed")


def follow_changes(context: BackupContext) -> None:
    """Ask for a backup when ``after_events`` events are behind the last one.

    Not while a scheduled one is going on, and not sooner than ``after_events_pause_s`` after the
    last that changes caused: one that fails is not asked for again and again. Raises
    UnavailableError.
    """
    now = context.clock.now()
    with (
        suppress(ConcurrencyConflict, LogLost),
        postgres_faults("looking at what changed"),
        context.pool.connection() as conn,
    ):
        schedule = read_configured(conn, context.store, Schedule)
        value = schedule.value
        if not value.enabled or schedule.paused or value.after_events is None:
            return
        if value.resumes_at is not None and now < value.resumes_at:
            return
        position, backup = read_position(conn), newest_usable(context, conn)
        events = position.position if backup is None else events_since(position, backup)
        if position.fenced or (events is not None and events < value.after_events):
            return
        last = context.store.last(conn, ev.CHANGES_STREAM)
        pause = timedelta(seconds=value.after_events_pause_s)
        if _within(last, pause, context) or context.history.going_on(conn) is not None:
            return
        version = 0 if last is None else last.version
        command = change_command(context, schedule, version + 1, events)
        facts = {
            "at": now.isoformat(),
            "events": events,
            "position": position.position,
            "epoch": position.epoch,
            "since_backup_id": None if backup is None else backup["backup_id"],
            "backup_id": str(command.backup_id),
        }
        meta = EventMeta(ACTOR, f"changes-{version + 1}")
        event = NewEvent(ev.CHANGE_TAKEN, facts, BACKUP_EVENTS)
        context.store.append(conn, ev.CHANGES_STREAM, version, [event], meta)
        trigger = {"kind": "changes", "events": events}
        store_request(context, conn, command, schedule_requester(f"changes-{version + 1}"), trigger)
        TAKING.reach()
    TAKEN.reach()


def _within(last: StoredEvent | None, pause: timedelta, context: BackupContext) -> bool:
    """Tell whether the last such backup was asked for just now; a clock set back ends the wait."""
    if last is None:
        return False
    return timedelta() <= context.clock.now() - last.occurred_at < pause
