"""What names a backup and its key on the command line, the same for every command about restores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import UsageError

KeyFilePath = Annotated[Path, typer.Option(help="File with the backup's key.", dir_okay=False)]
BackupId = Annotated[str | None, typer.Option(help="Id of a backup in the storage.")]
ArchiveFile = Annotated[Path | None, typer.Option(help="An archive file instead.", dir_okay=False)]
SourceInstance = Annotated[
    str | None, typer.Option(help="Id of the instance it was made of, if another.")
]
TrustSigner = Annotated[str | None, typer.Option(help="Fingerprint of a signer you know.")]
RollForward = Annotated[
    str | None,
    typer.Option(
        metavar="latest|OFFSET|TIME",
        help="Go on from the backup along the log: to its end, to an offset, to a moment.",
    ),
]


def check_one_source(backup: str | None, file: Path | None) -> None:
    """Raise UsageError unless exactly one of them is given."""
    if (backup is None) == (file is None):
        raise UsageError("give either --backup ID or --file F")


def read_key(key_file: Path) -> str:
    """Return the text of a key file. Raises UsageError."""
    try:
        return key_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the key file {key_file} cannot be read ({error})") from error


def parse_roll_forward(text: str | None) -> str | int | None:
    """Return an offset as a number, everything else as it is."""
    if text is None or not (text.isascii() and text.isdigit()):
        return text
    return int(text)
