"""`secryn storage`: what lies there, compared with the history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, plain
from shared.errors import ArchiveDamaged

app = typer.Typer(help="Where the backups lie.", no_args_is_help=True)
# A group with a single command would not take its name.
app.callback()(lambda: None)

_WHAT = {
    "object_without_backup": "an object that no backup is known of: `secryn backup adopt`",
    "receipt_without_backup": "a receipt that no backup is known of",
    "remains_of_an_ended_backup": "remains of a backup that ended",
    "unknown_object": "an object of a name that is none of ours",
    "backup_without_object": "a backup whose object is LOST",
    "backup_without_receipt": "a backup whose receipt is lost",
}


@app.command()
@command
def check(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Find objects without a backup and backups without an object; nothing is deleted.

    Exit code 6 when there are any.
    """
    with connected(state) as stack:
        report = stack.backups.check_storage()
    emit(report, as_json, lambda: _tell(report))
    if not report["clean"]:
        raise typer.Exit(ArchiveDamaged.exit_code)


def _tell(report: Mapping[str, Any]) -> None:
    if report["clean"]:
        typer.echo("Every backup has its object and its receipt, and nothing else lies there.")
    for found in report["named"]:
        typer.echo(f"{plain(found['name'])}: {_WHAT[found['kind']]}")
    more = sum(report["findings"].values()) - len(report["named"])
    if more:
        typer.echo(f"and {more:,} more")
