"""The command line `secryn`: every command is registered here and lives in a file of its own."""

from __future__ import annotations

import typer

from cli import stack

app = typer.Typer(
    name="secryn",
    help="Backup and restore of a Secryn instance: one file and one key bring back everything.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
