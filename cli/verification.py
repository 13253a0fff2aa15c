"""`secryn verification`: how often stored backups are read back by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.errors import UsageError

app = typer.Typer(help="How often stored backups are read back.", no_args_is_help=True)

_DAY_S = 86_400
_MB = 1_000_000


@app.command()
@command
def show(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show how often, and how fast."""
    with connected(state) as stack:
        found = stack.configuration.get("verification")
    emit(found, as_json, lambda: _tell_plan(found))


@app.command("set")
@command
def set_verification(
    *,
    every_days: Annotated[
        float | None, typer.Option(help="Every backup is read back within so many days.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Only when somebody asks.")] = False,
    mb_per_s: Annotated[float | None, typer.Option(help="No faster than so many MB/s.")] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit trail.")] = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Change what is named here."""
    if off and every_days is not None:
        raise UsageError("give either --every-days or --off")
    wished: dict[str, Any] = {"every_s": None} if off else {}
    if every_days is not None:
        wished["every_s"] = round(every_days * _DAY_S)
    if mb_per_s is not None:
        wished["bytes_per_s"] = round(mb_per_s * _MB)
    if not wished:
        raise UsageError("nothing is to be set", hint="`secryn verification set --help`.")
    with connected(state) as stack:
        now = stack.configuration.get("verification")
        value = now["value"] | wished
        found = stack.configuration.set("verification", value, now["etag"], reason)
    emit(found, as_json, lambda: _tell_plan(found))


def _tell_plan(found: Mapping[str, Any]) -> None:
    value = found["value"]
    if value["every_s"] is None:
        typer.echo("Backups are read back only when somebody asks: secryn backup verify BACKUP")
        return
    typer.echo(
        f"Every backup is read back within {value['every_s'] / _DAY_S:g} days, "
        f"at up to {value['bytes_per_s'] / _MB:g} MB/s."
    )
