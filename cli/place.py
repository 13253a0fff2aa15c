"""`secryn place`: the keys, passwords, roles, topics and rights of a place made of containers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import command, emit

app = typer.Typer(help="A place made of containers: docs/containers.md.", no_args_is_help=True)

Folder = Annotated[
    Path,
    typer.Option(
        "--folder", file_okay=False, help="Holds the place and one folder a container: volumes."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def _tell(text: str) -> None:
    typer.echo(text, err=True)


@app.command()
@command
def init(
    *,
    folder: Folder,
    wanted: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            dir_okay=False,
            help="TOML: [hosts], [ports], environment, environment_kind, [settings].",
        ),
    ] = None,
    new_bootstrap: Annotated[
        bool,
        typer.Option(
            "--new-bootstrap", help="Make the credential of an instance without users anew."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make what keys, passwords and settings are missing, and hand each container its own."""
    from deploy.containers.place import make_place

    place = make_place(folder, wanted, _tell, new_bootstrap=new_bootstrap)
    emit(
        {"instance_id": str(place.instance_id), "environment": place.environment},
        as_json,
        lambda: typer.echo(f"The place of the instance {place.instance_id} is made."),
    )


@app.command()
@command
def provision(
    *,
    folder: Folder,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait until each server answers.")
    ] = 120,
    as_json: AsJson = False,
) -> None:
    """Make PostgreSQL's roles and database, Kafka's users, topics and rights."""
    from deploy.containers.servers import provision as provision_servers

    place = provision_servers(folder, wait, _tell)
    emit({"instance_id": str(place.instance_id)}, as_json, lambda: None)
