"""Options that every command takes, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

State = Annotated[
    Path,
    typer.Option(
        "--state", envvar="SECRYN_STATE", help="Folder of the stack's state.", file_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DEFAULT_STATE = Path(".secryn")
