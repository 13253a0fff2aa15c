"""`secryn backup hold`, `release`, `delete`: what a person decides about one backup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, error_of, plain
from shared.errors import Cancelled, UnavailableError, UsageError

BackupId = Annotated[str, typer.Argument(metavar="BACKUP", help="Id of the backup.")]
Why = Annotated[str, typer.Option(help="Why; stands in the history and in the audit trail.")]
Holder = Annotated[
    str | None, typer.Option(help="On whose behalf; without it, on your own.", metavar="NAME")
]


@command
def hold(
    backup_id: BackupId,
    *,
    reason: Why,
    until: Annotated[
        str | None,
        typer.Option(help="The first day on which it no longer holds (UTC), or a time with zone."),
    ] = None,
    holder: Holder = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Keep a backup from being purged or deleted, whatever the rules."""
    end = None if until is None else read_until(until)
    with connected(state) as stack:
        backup = stack.backups.hold(backup_id, reason, holder=holder, until=end)
    emit(backup, as_json, lambda: _tell_holds(backup))


def read_until(text: str) -> str:
    """Return the time in its full form. Raises UsageError, saying what to write."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or (found.tzinfo is None and found.time() != time()):
        raise UsageError(
            f"--until {text!r} is no day and no time with a zone",
            hint="Write 2027-01-31, or 2027-01-31T18:00:00+01:00.",
        )
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).isoformat()


@command
def release(
    backup_id: BackupId,
    *,
    reason: Why,
    holder: Holder = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Give one holder's hold back."""
    with connected(state) as stack:
        backup = stack.backups.release(backup_id, reason, holder=holder)
    emit(backup, as_json, lambda: _tell_holds(backup))


@command
def delete(
    backup_id: BackupId,
    *,
    reason: Why,
    confirm: Annotated[
        str | None, typer.Option(help="The id once more, instead of typing it when asked.")
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Delete one backup for good: its file, its receipt, and its key where one waits."""
    with connected(state) as stack:
        if confirm is None:
            confirm = _ask(stack.backups.get(backup_id))
        backup = stack.backups.delete(backup_id, reason, confirm=confirm)
    emit(backup, as_json, lambda: _tell_deleted(backup))
    if backup["state"] != "purged":
        raise typer.Exit(
            error_of(backup["purge"] or {}, UnavailableError, "it is not deleted").exit_code
        )


def _ask(backup: Mapping[str, Any]) -> str:
    typer.echo(
        f"The backup of {backup['requested_at']} ({plain(backup['reason'])}) will be deleted for"
        " good.",
        err=True,
    )
    typed = str(typer.prompt("Type the id of the backup to go on", err=True)).strip()
    if typed != backup["backup_id"]:
        raise Cancelled("what was typed is not the id of the backup; nothing was deleted")
    return typed


def _tell_holds(backup: Mapping[str, Any]) -> None:
    if not backup["holds"]:
        typer.echo(f"Backup {backup['backup_id']}: nobody holds it.")
    for one in backup["holds"]:
        until = f"until {one['until']}" if one["until"] else "until it is released"
        typer.echo(
            f"Backup {backup['backup_id']}: held by {plain(one['holder'])} {until}:"
            f" {plain(one['reason'])}"
        )


def _tell_deleted(backup: Mapping[str, Any]) -> None:
    if backup["state"] == "purged":
        typer.echo(f"Backup {backup['backup_id']} is deleted.")
        return
    purge = backup["purge"]
    typer.echo(f"Backup {backup['backup_id']} is NOT deleted: {purge['error']['message']}")
    typer.echo(f"  {purge['error']['hint']}")
    typer.echo(f"It is tried again at {purge['retry_at']}.")
