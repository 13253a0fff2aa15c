"""`secryn admin`: the people who look after backups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.errors import UsageError
from shared.secretfiles import read_secret_file

app = typer.Typer(help="Administrators of backups.", no_args_is_help=True)
# With a single command, and without this, its name could not be given.
app.callback()(lambda: None)


@app.command()
@command
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to sign in with.")],
    *,
    password_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A 0600 file with the password; else it is asked for."),
    ] = None,
    display_name: Annotated[str, typer.Option(help="How pages show the person.")] = "",
    email: Annotated[str, typer.Option(help="The person's address.")] = "",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Make a user of the instance who may do everything about backups and restores."""
    password = _password(password_file)
    with connected(state) as stack:
        made = stack.access.create_administrator(
            name, password, display_name=display_name, email=email
        )
    emit(
        made, as_json, lambda: typer.echo(f"{name} may sign in: {stack.access.connection.base_url}")
    )


def _password(file: Path | None) -> str:
    if file is None:
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    try:
        return read_secret_file(file).decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8") from None
