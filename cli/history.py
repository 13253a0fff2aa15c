"""`secryn history`: what is remembered of backups, made anew from the events."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from cli.progress import shown

app = typer.Typer(help="What is remembered of backups and operations.", no_args_is_help=True)
# A group with a single command would not take its name.
app.callback()(lambda: None)


@app.command()
@command
def rebuild(
    state: State = DEFAULT_STATE,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Without progress.")] = False,
) -> None:
    """Make the history anew from the events; the service goes on meanwhile."""
    with connected(state) as stack, shown("Rebuild", quiet=quiet or as_json) as progress:
        report = stack.backups.rebuild_history(progress)
    emit(
        report,
        as_json,
        lambda: typer.echo(
            f"{report['backups']:,} backups from the events up to position {report['position']:,}."
        ),
    )
