"""`secryn up`, `down` and `status`: the embedded stack of one state folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from cli.protection import protection_lines
from cli.remote import needs_state, remote
from cli.store import store_lines
from cli.strays import stray_lines

Environment = Annotated[
    str | None, typer.Option(help="Name of the environment, written into every backup.")
]
EnvironmentKind = Annotated[str | None, typer.Option(help="production, staging or development.")]
PostgresUrl = Annotated[
    str | None,
    typer.Option(
        envvar="SECRYN_POSTGRES_URL",
        help="Your own PostgreSQL (14 or newer) instead of the embedded one. A password belongs "
        "into the environment variable or a passfile: arguments are seen by every local user.",
    ),
]
KafkaConfig = Annotated[
    Path | None,
    typer.Option(
        resolve_path=True,
        help="TOML file with the section [kafka]: your own Kafka instead of the embedded.",
    ),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        resolve_path=True,
        help="TOML file with settings of the processes, such as [restore.restore]: see docs/settings.md.",
    ),
]
Foreground = Annotated[
    bool, typer.Option("--foreground", help="Stay in the foreground; Ctrl-C stops the stack.")
]


def _tell(text: str) -> None:
    typer.echo(text, err=True)


@command
def up(  # noqa: PLR0917
    state: State = DEFAULT_STATE,
    environment: Environment = None,
    environment_kind: EnvironmentKind = None,
    postgres_url: PostgresUrl = None,
    kafka_config: KafkaConfig = None,
    settings: Settings = None,
    foreground: Foreground = False,
    as_json: Json = False,
) -> None:
    """Start PostgreSQL, Kafka, the projector and both services; return when all are healthy."""
    from deploy.embedded import stack
    from deploy.embedded.wishes import Wishes

    needs_state("`secryn up`")
    wishes = Wishes(environment, environment_kind, postgres_url, kafka_config, settings)
    if foreground:
        sys.exit(stack.run_in_foreground(state, wishes, _tell))
    found = stack.up(state, wishes, _tell)

    def tell() -> None:
        _show(found)
        typer.echo(f"Open {found['backup_url']}/admin/backups in a browser.")
        typer.echo("The first time, make somebody who may sign in: secryn admin create NAME")

    emit(found, as_json, tell)


@command
def down(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Stop the stack: the services first, then Kafka, then PostgreSQL."""
    from deploy.embedded import stack

    needs_state("`secryn down`")
    done = stack.down(state, _tell)

    def tell() -> None:
        stopped = ", ".join(done["stopped"])
        typer.echo(f"Stopped: {stopped}" if stopped else "Nothing was running.")

    emit(done, as_json, tell)


@command
def status(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show what runs, where it listens and how it is."""
    if remote(state).url is not None:
        from cli.elsewhere import show_services

        show_services(state, as_json)
        return
    from deploy.embedded import stack

    found = stack.status(state) | {"protection": None}
    if any(p["name"] == "backup" and p["health"] == "healthy" for p in found["processes"]):
        found["protection"] = _protection(state)
    emit(found, as_json, lambda: _show(found))


def _protection(state: Path) -> Mapping[str, Any] | None:
    """Return how much a loss would cost; None where the service is busy with other things."""
    from cli.connect import connected
    from shared.errors import SecrynError

    try:
        with connected(state) as stack:
            return stack.backups.protection()
    except SecrynError:
        return None


def _show(found: Mapping[str, Any]) -> None:
    typer.echo(f"Stack {found['state']}: {found['state_dir']}")
    typer.echo(f"  instance   {found['instance_id']} ({found['environment']})")
    for process in found["processes"]:
        pid = process["pid"] or "-"
        typer.echo(
            f"  {process['name']:<10} {process['health']:<10} {pid!s:>8}  {process['endpoint']}"
        )
        if process["reason"]:
            typer.echo(f"             {process['reason']}")
    for line in store_lines(found["store"]):
        typer.echo(f"  {line}")
    for line in protection_lines(found["protection"]) if found.get("protection") else ():
        typer.echo(f"  {line}")
    typer.echo(f"  pages      {found['backup_url']}/admin/")
    typer.echo(
        "  the first sign-in: `secryn admin create NAME`, or with the credential in the file"
    )
    typer.echo(f"             {found['state_dir']}/bootstrap")
    for line in stray_lines(found["stray_states"] or [], found["instance_id"]):
        typer.echo(f"  {line}")
    for note in found["notes"]:
        typer.echo(f"  {note}")


@command
def bootstrap(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Make the credential anew that restores into an instance without users."""
    from deploy.embedded.configs import write_bootstrap
    from deploy.embedded.folder import open_state

    needs_state("`secryn bootstrap`")
    folder = open_state(state)
    write_bootstrap(folder)
    found = {"token_file": str(folder.bootstrap)}
    emit(
        found, as_json, lambda: typer.echo(f"{folder.bootstrap}: opens an instance without users.")
    )
