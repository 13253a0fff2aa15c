"""`secryn backup list`: the history, filtered, sorted, page by page or whole as CSV."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.keystate import told_key
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, plain
from cli.protection import recovery_line
from shared.errors import UsageError

STATES = "requested, running, created, failed, cancelled, purging or purged; may be repeated."
KEYS = "waiting, viewed, expired, own_recipient, gone or destroyed; may be repeated."
SORTS = (
    "requested_at, requested_by, state, key_state, offset, size_bytes, duration_s, proven_at, "
    "verified_at, rehearsed_at or purged_at."
)
TIME = "A time with its zone, as 2026-11-24T13:00:00Z."


@command
def list_backups(
    *,
    in_state: Annotated[list[str] | None, typer.Option(help=STATES)] = None,
    key_state: Annotated[list[str] | None, typer.Option(help=KEYS)] = None,
    requested_by: Annotated[str | None, typer.Option(help="Who or what asked.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Asked for at or after it. {TIME}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Asked for before it. {TIME}")] = None,
    offset_from: Annotated[int | None, typer.Option(help="Of this offset or a later one.")] = None,
    offset_to: Annotated[int | None, typer.Option(help="Of an offset before this one.")] = None,
    proven: Annotated[
        bool | None, typer.Option("--proven/--not-proven", help="There, proven and not damaged.")
    ] = None,
    held: Annotated[bool | None, typer.Option("--held/--not-held", help="Under a hold.")] = None,
    text: Annotated[str | None, typer.Option(help="A part of the reason, in any case.")] = None,
    sort: Annotated[str, typer.Option(help=SORTS)] = "requested_at",
    order: Annotated[str, typer.Option(help="desc or asc.")] = "desc",
    limit: Annotated[int, typer.Option(help="Backups of one page, up to 1000.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="All of them as CSV, streamed.")] = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show the history, the newest first, or in another order."""
    if as_csv and (as_json or cursor is not None):
        raise UsageError("--csv gives the whole history: without --json and --cursor")
    asked = {
        "state": in_state, "key_state": key_state, "requested_by": requested_by,
        "requested_from": since, "requested_to": until, "offset_from": offset_from,
        "offset_to": offset_to, "proven": proven, "held": held, "text": text, "sort": sort,
        "order": order,
    }  # fmt: skip
    with connected(state) as stack:
        if as_csv:
            stack.backups.write_csv(_write, **asked)
            return
        found = stack.backups.list(limit=limit, cursor=cursor, **asked)
    emit(found, as_json, lambda: _tell(found))


def _write(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _tell(found: Mapping[str, Any]) -> None:
    if not found["backups"]:
        typer.echo("No backups. Make one: secryn backup create --wait")
    for backup in found["backups"]:
        took = "-" if backup["duration_s"] is None else f"{backup['duration_s']:.1f} s"
        typer.echo(
            f"{backup['backup_id']}  {backup['state']:<9}  offset {_or_dash(backup['offset'])}"
            f"  {backup['size_bytes'] or 0:>13,} bytes  {took:>8}  {backup['requested_at']}"
            f"  {told_key(backup)}  by {plain(backup['requested_by'])}"
            f"  {plain(backup['reason'])}{_marks(backup)}"
        )
    if found["next_cursor"] is not None:
        typer.echo(f"There are more: --cursor {found['next_cursor']}")
    typer.echo(recovery_line(found["recovery_point"]))


def _or_dash(value: object) -> object:
    return "-" if value is None else value


def _marks(backup: Mapping[str, Any]) -> str:
    """Say what was found of the backup since, and what keeps it."""
    marks = [_rehearsed(backup)]
    if backup["intact"] is False:
        marks.append(f"DAMAGED ({backup['last_verification']['code']})")
    if backup["receipt_intact"] is False:
        marks.append(f"RECEIPT DAMAGED ({backup['last_verification']['receipt']['code']})")
    if backup["holds"]:
        marks.append("held")
    if backup["purged_at"] is not None:
        marks.append(f"purged at {backup['purged_at']}")
    return "".join(f"  [{mark}]" for mark in marks if mark)


def _rehearsed(backup: Mapping[str, Any]) -> str:
    rehearsal = backup["rehearsal"]
    if rehearsal is None:
        return ""
    found = {
        "restorable": "restorable, proven",
        "differs": "DIFFERS from the log, seen",
        "failed": f"NOT restorable ({rehearsal['code']}), seen",
    }
    return f"{found[rehearsal['outcome']]} at {backup['rehearsed_at']}"
