"""`secryn key`: the one-time key, once; and whether a key belongs to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.backup import KEY_WARNING
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.archive.keyfile import check_key_file

app = typer.Typer(help="One-time keys.", no_args_is_help=True)


@app.command()
@command
def view(
    backup_id: Annotated[str, typer.Argument(metavar="BACKUP")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show the key of a backup: once, to whoever asks first."""
    with connected(state) as stack:
        key = stack.backups.view_key(backup_id)
    emit(
        {"backup_id": backup_id, "key": key},
        as_json,
        lambda: typer.echo(f"{key}\n{KEY_WARNING}"),
    )


@app.command()
@command
def check(
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", dir_okay=False)],
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Tell, offline, whether KEYFILE opens the file BACKUP."""
    found = check_key_file(key_file, backup)
    emit(found, as_json, lambda: typer.echo("They belong together."))
