"""`secryn token`: API tokens, for programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.errors import UsageError
from shared.secretfiles import write_secret_file

app = typer.Typer(help="API tokens, for programs.", no_args_is_help=True)

_LIFETIME = re.compile(r"^([1-9][0-9]{0,5})([mhd])$")
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}

Name = Annotated[str, typer.Argument(metavar="NAME", help="What it is called, for ever.")]


@app.command()
@command
def create(
    name: Name,
    *,
    permission: Annotated[
        list[str],
        typer.Option(help="create, download, view_key, restore, configure, hold, delete, ..."),
    ],
    expires_in: Annotated[str, typer.Option(metavar="30m|12h|90d", help="Until when.")] = "90d",
    unattended: Annotated[
        bool,
        typer.Option(
            "--unattended", help="It views keys, restores and deletes without a person's proof."
        ),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option("--to", dir_okay=False, help="Write it there (0600), not on the terminal."),
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Make a token. It is shown this once; stored is only its digest."""
    lifetime_s = _seconds(expires_in)
    if token_file is not None and token_file.exists():
        raise UsageError(f"{token_file} exists already: nothing was made")
    with connected(state) as stack:
        token = stack.access.create_token(
            name, permission, expires_in_s=lifetime_s, unattended=unattended
        )
    made: dict[str, Any] = {**token}
    if token_file is not None:
        write_secret_file(token_file, f"{made.pop('token')}\n".encode("ascii"))
        made["token_file"] = str(token_file)

    def tell() -> None:
        typer.echo(made.get("token") or f"{token_file}: the token {name}")
        may = ", ".join(token["permissions"])
        typer.echo(f"Until {token['expires_at']} it may: {may}", err=True)

    emit(made, as_json, tell)


@app.command("list")
@command
def list_(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List the tokens: what each may do, and when it was last used."""
    with connected(state) as stack:
        tokens = stack.access.tokens()

    def tell() -> None:
        for token in tokens:
            used = token["last_used_at"] or "never used"
            typer.echo(
                f"{token['name']:<24} {token['state']:<8} {used:<33} by {token['created_by']}: "
                f"{', '.join(token['permissions'])}{' (unattended)' if token['unattended'] else ''}"
            )
        if not tokens:
            typer.echo("There are no tokens.")

    emit({"tokens": tokens}, as_json, tell)


@app.command()
@command
def revoke(name: Name, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """End a token at once."""
    with connected(state) as stack:
        ended = stack.access.revoke_token(name)
    emit(ended, as_json, lambda: typer.echo(f"{name}: revoked at {ended['revoked_at']}"))


def _seconds(text: str) -> int:
    found = _LIFETIME.match(text)
    if found is None:
        raise UsageError(f"--expires-in {text!r} is not like 30m, 12h or 90d")
    return int(found[1]) * _UNITS_S[found[2]]
