"""The command line `secryn`: every command is registered here and lives in a file of its own."""

from __future__ import annotations

import typer

from cli import archive, backup, demo, instance, key, restore, sample, stack

app = typer.Typer(
    name="secryn",
    help="Backup and restore of a Secryn instance: one file and one key bring back everything.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(demo.demo)
app.add_typer(sample.app, name="sample")
app.add_typer(instance.app, name="instance")
app.add_typer(backup.app, name="backup")
app.add_typer(key.app, name="key")
app.add_typer(restore.app, name="restore")
app.add_typer(archive.app, name="archive")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
