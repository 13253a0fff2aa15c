"""The command line `secryn`: every command is registered here and lives in a file of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import typer

from cli.remote import options

# In the order in which the help shows them.
COMMANDS = {
    "up": "cli.stack",
    "down": "cli.stack",
    "status": "cli.stack",
    "bootstrap": "cli.stack",
    "demo": "cli.demo",
    "operations": "cli.operations",
}
GROUPS = {
    "sample": "cli.sample",
    "instance": "cli.instance",
    "backup": "cli.backup",
    "key": "cli.key",
    "schedule": "cli.schedule",
    "retention": "cli.retention",
    "history": "cli.history",
    "storage": "cli.storage",
    "verification": "cli.verification",
    "rehearsal": "cli.rehearsal",
    "restore": "cli.restore",
    "archive": "cli.archive",
    "token": "cli.token",
    "admin": "cli.admin",
    "audit": "cli.audit",
    "place": "cli.place",
}


def build(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line for ``arguments``.

    Where the first of them names a command, only that one's modules are imported: a person waits
    for what the others would take. Otherwise (the help, a completion, a mistake) all are.
    """
    app = typer.Typer(
        name="secryn",
        help="Backup and restore of a Secryn instance: one file and one key bring back everything.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(options)
    named = _named(arguments)
    known = named in COMMANDS or named in GROUPS
    for name, module in COMMANDS.items():
        if not known or name == named:
            app.command(name)(getattr(importlib.import_module(module), name))
    for name, module in GROUPS.items():
        if not known or name == named:
            app.add_typer(importlib.import_module(module).app, name=name)
    return app


def _named(arguments: Sequence[str]) -> str:
    """Return the command in ``arguments``, behind the options that stand before it."""
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            return word
        if "=" not in word:
            next(words, None)
    return ""


def main() -> None:
    """Run the command line."""
    build(sys.argv[1:])()


if __name__ == "__main__":
    main()
