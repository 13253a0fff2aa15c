"""Preview: what a restore would undo, and whose access it would bring back.

The archive is judged as for a restore. Nothing is fenced, loaded or changed; no lock is held, and
a restore that runs meanwhile goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import structlog
from psycopg import sql

from restore_service.access import ArchivedAccess, archived_access
from restore_service.accessforward import roll_access_forward
from restore_service.checks import check_archive, using_source
from restore_service.commands import RollForward
from restore_service.context import RestoreContext
from restore_service.fence import present_position
from restore_service.previews import FAILED, PREVIEWED, AcceptedPreview
from restore_service.rollforward import PresentLog, present_log
from restore_service.staging import INSTANCE
from restore_service.undone import Undone, find_undone, newest_undone
from shared.audit import AuditEntry
from shared.errors import (
    CrossesRestore,
    Interrupted,
    KafkaUnavailable,
    LogGap,
    LogLost,
    PreviewFailed,
    SecrynError,
    UnavailableError,
)
from shared.instance.retrace import Base
from shared.instance.subject import table_of
from shared.instance.workingset import TABLES

log = structlog.get_logger(__name__)

# For these the events cannot be counted; the rest of a preview is as good without them.
_UNCOUNTED: Final = (LogLost, LogGap, CrossesRestore, KafkaUnavailable)
CHECK, ACCESS, READ, NAME = (
    "checking the archive", "comparing access", "reading the log", "naming the newest events",
)  # fmt: skip

Look = Callable[[], None]


def run_preview(context: RestoreContext, accepted: AcceptedPreview) -> None:
    """Run an accepted preview to its end: previewed, or failed with the reason."""
    context.progress.begin(accepted.id)
    try:
        with using_source(context, accepted.command):
            result = _preview(context, accepted) | {"state": PREVIEWED}
    except SecrynError as error:
        result = _failed(context, accepted, error)
    except Exception as error:
        log.error("preview.crashed", preview_id=accepted.id, exc_info=error)
        wrapped = PreviewFailed(f"an unexpected error ({type(error).__name__})")
        result = _failed(context, accepted, wrapped)
    finally:
        context.progress.end(accepted.id)
    context.previews.end(accepted.id, result)


def _failed(
    context: RestoreContext, accepted: AcceptedPreview, error: SecrynError
) -> dict[str, Any]:
    requester = accepted.requester
    entry = AuditEntry(
        "restore.preview", "failure", requester.name, "preview", accepted.id, requester.source,
        code=error.code, message=error.message,
    )  # fmt: skip
    try:
        context.record(entry, requester.correlation_id)
    except UnavailableError as fault:
        log.error("audit.unrecorded", code=fault.code, refused=error.code)
    shown = {"code": error.code, "message": error.message, "hint": error.advice}
    return {"state": FAILED, "error": shown}


def _preview(context: RestoreContext, accepted: AcceptedPreview) -> dict[str, Any]:
    command, progress = accepted.command, context.progress

    def look() -> None:
        if context.stop.is_set():
            raise Interrupted("the service stopped during the preview")

    def advance(done_bytes: int) -> None:
        look()
        progress.advance(accepted.id, done_bytes)

    with context.transaction("looking at the store") as conn:
        present_position(conn)
    with archived_access(context.settings.postgres.dsn) as access:
        progress.step(accepted.id, CHECK)
        checked = check_archive(context, command, accepted.key, advance, access.take)
        access.check(checked.manifest)
        facts = checked.facts
        progress.step(accepted.id, READ)
        events, undone = _events(context, facts, command.roll_forward, command.newest, look)
        progress.step(accepted.id, ACCESS)
        as_of = facts["offset"]
        if command.roll_forward is not None and undone is not None:
            as_of = roll_access_forward(context, access, as_of, undone, look)
        compared = access.compare()
        progress.step(accepted.id, NAME)
        _name(access, events["newest"])
    return {
        "backup_id": facts["backup_id"],
        "archive": facts,
        "offset": facts["offset"],
        "events": events,
        # Where the way of a roll-forward is not known it is that of the archive.
        "access": {"as_of_offset": as_of} | compared,
    }


def _events(
    context: RestoreContext,
    facts: dict[str, Any],
    wanted: RollForward | None,
    newest: int,
    look: Look,
) -> tuple[dict[str, Any], Undone | None]:
    """Return what would be undone on the log, or why that cannot be said, and the way there.

    Raises RollForwardRange.
    """
    try:
        with present_log(context, None, look) as known:
            counted, undone = _counted(known, facts, wanted, newest)
            return {"counted": True, "reason": None} | counted, undone
    except _UNCOUNTED as error:
        reason = {"code": error.code, "message": error.message}
        shown = {"counted": False, "reason": reason, "to": None, "total": None, "newest": []}
        return shown, None


def _counted(
    known: PresentLog, facts: dict[str, Any], wanted: RollForward | None, newest: int
) -> tuple[dict[str, Any], Undone]:
    known.check_same(facts)
    base = Base(facts["offset"], facts["source_epoch"])
    target = base.offset if wanted is None else known.target_of(base.offset, wanted)
    undone = find_undone(known, base, target)
    counted = (
        {"to": target, "log_end": known.end}
        | undone.as_json()
        | {"newest": newest_undone(known, undone, newest)}
    )
    return counted, undone


def _name(access: ArchivedAccess, events: list[dict[str, Any]]) -> None:
    """Give the things that events name by id alone their names, as the instance knows them now.

    A user or a role that is no longer there has its name from the archive.
    """
    ids: dict[str, set[str]] = {"users": set(), "roles": set()}
    for event in events:
        table = table_of(event["kind"])
        if table is not None and event["id"] is not None and event["name"] is None:
            ids.setdefault(table, set()).add(event["id"])
        for field, named in (("user_id", "users"), ("role_id", "roles")):
            if event.get(field) is not None:
                ids[named].add(event[field])
    names = {table: _names(access, table, wanted) for table, wanted in ids.items()}
    for event in events:
        table = table_of(event["kind"]) or ""
        event["name"] = event["name"] or names.get(table, {}).get(event["id"])
        for field, named in (("user_id", "users"), ("role_id", "roles")):
            if field in event:
                event[field.removesuffix("_id")] = names[named].get(event[field])


def _names(access: ArchivedAccess, table: str, ids: set[str]) -> dict[str, str]:
    column = next((c for c in ("name", "username") if c in TABLES[table].columns), None)
    if column is None or "id" not in TABLES[table].columns or not ids:
        return {}
    places = [(INSTANCE, table), *([("pg_temp", table)] if table in ("users", "roles") else [])]
    found: dict[str, str] = {}
    for place in reversed(places):
        query = sql.SQL("SELECT id::text, {} FROM {} WHERE id = ANY(%s::uuid[])").format(
            sql.Identifier(column), sql.Identifier(*place)
        )
        found |= dict(access.conn.execute(query, (list(ids),)).fetchall())
    return found
