"""`secryn instance`: what is there, its digest, one secret; its log, when that was lost."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.confirm import confirm_instance
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, MeantEnvironment, State
from cli.output import command, emit

Instance = Annotated[str, typer.Option(help="Id of the instance that is meant.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit trail.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

app = typer.Typer(help="The instance that is backed up.", no_args_is_help=True)


@app.command()
@command
def show(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what the instance holds, and how far its store is."""
    with connected(state) as stack:
        found = stack.backups.instance()

    def tell() -> None:
        typer.echo(f"Instance {found['instance_id']} ({found['environment']})")
        typer.echo(f"Position {found['position']}, epoch {found['epoch']}")
        for table, rows in found["tables"].items():
            typer.echo(f"  {table:<22}{rows:>12,}")

    emit(found, as_json, tell)


@app.command()
@command
def digest(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Compute the canonical digest of the whole state."""
    with connected(state) as stack:
        found = stack.backups.digest()

    def tell() -> None:
        typer.echo(f"{found['digest']}  at offset {found['offset']}")
        for table, entry in found["tables"].items():
            typer.echo(f"  {table:<22}{entry['rows']:>12,}  {entry['digest']}")

    emit(found, as_json, tell)


@app.command()
@command
def secret(
    path: Annotated[str, typer.Argument(metavar="PROJECT/VAULT/SECRET")],
    version: Annotated[int | None, typer.Option(help="A version; default: the present one.")] = (
        None
    ),
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Open one secret, as a platform service would."""
    from cli.instance_secret import open_secret, write_value

    found = open_secret(state, path, version)
    emit(found.as_json(), as_json, lambda: write_value(found.value))


@app.command("adopt-log")
@command
def adopt_log(
    *,
    instance: Instance,
    environment: MeantEnvironment = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="beginning|end",
            help="What becomes of what the log holds already: applied, or passed over.",
        ),
    ] = None,
    reason: Reason = "by hand",
    yes: Yes = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Follow the log that is there now: the one that the store was folded from is lost."""
    with connected(state) as stack:
        confirm_instance(stack, instance, yes, "This gives the lost log up for", environment)
        found = stack.backups.adopt_log(instance, reason, start=start, environment=environment)

    def tell() -> None:
        typer.echo(f"The store follows the log from offset {found['position']} on.")
        typer.echo(
            f"Of what it held, {found['to_apply']} offsets are applied"
            f" and {found['passed_over']} passed over."
        )
        typer.echo("Make a backup now: this log alone does not lead to the present state.")
        if found["lowered_fence"] is not None:
            restore = found["lowered_fence"]["restore_id"]
            typer.echo(f"The fence of restore {restore} was lowered.")

    emit(found, as_json, tell)


@app.command("skip-event")
@command
def skip_event(
    *,
    offset: Annotated[int, typer.Option(help="Where it stands: `secryn status` says it.")],
    instance: Instance,
    environment: MeantEnvironment = None,
    reason: Reason = "by hand",
    yes: Yes = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Pass the one event that cannot be decoded and that the projector stopped at."""
    with connected(state) as stack:
        what = f"This gives the event at offset {offset} up for"
        confirm_instance(stack, instance, yes, what, environment)
        found = stack.backups.skip_event(instance, offset, reason, environment=environment)

    def tell() -> None:
        typer.echo(f"The event at offset {offset} was passed: {found['fault']}.")
        typer.echo(f"It has {found['size_bytes']} bytes, sha256 {found['sha256']}.")

    emit(found, as_json, tell)
