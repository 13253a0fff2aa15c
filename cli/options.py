"""Options that every command takes, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Names the file with a token for every command, in place of the operator's.
CREDENTIAL_ENV = "SECRYN_TOKEN_FILE"
STATE_ENV = "SECRYN_STATE"

State = Annotated[
    Path,
    typer.Option("--state", envvar=STATE_ENV, help="Folder of the stack's state.", file_okay=False),
]
MeantEnvironment = Annotated[
    str | None,
    typer.Option(
        "--environment", help="Name of the environment that is meant; production must be named."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar=CREDENTIAL_ENV,
        dir_okay=False,
        help="A 0600 file with another token than the operator's: a receipt, the bootstrap credential.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DEFAULT_STATE = Path(".secryn")
