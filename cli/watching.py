"""Start a restore and watch it: the key is read, the receipt is kept, the end is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import Connected
from cli.output import error_of
from cli.preview import tell_revoked
from cli.progress import shown
from shared.client.restores import receipt_of
from shared.errors import RestoreFailedError
from shared.secretfiles import write_secret_file

ReceiptFile = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="Where the receipt goes, which watches and undoes this restore; default: in the state, or in secryn-receipts/.",
    ),
]


def watched(
    stack: Connected, restore_id: str, secret: str, receipt_file: Path | None, as_json: bool
) -> dict[str, Any]:
    """Keep the receipt, and watch with it: what started the restore may end with it."""
    file = receipt_file or stack.receipts / restore_id
    file.parent.mkdir(mode=0o700, exist_ok=True)
    receipt = receipt_of(restore_id, secret)
    write_secret_file(file, f"{receipt}\n".encode("ascii"), exist_ok=True)
    watching = stack.restores.with_receipt(receipt)
    with watching.connection, shown("Restore", quiet=as_json) as progress:
        return {**watching.wait(restore_id, progress), "receipt_file": str(file)}


def raise_unless_restored(restore: Mapping[str, Any]) -> None:
    """Raise the error that ended a restore, unless it came about."""
    if restore["state"] == "restored":
        return
    raise error_of(
        restore,
        RestoreFailedError,
        f"the restore {restore['restore_id']} was {restore['state']}",
    )


def tell_restored(restore: Mapping[str, Any]) -> None:
    """Tell a person that a restore came about, and how to undo it."""
    typer.echo(f"Restore {restore['restore_id']}: {restore['state']}, epoch {restore['epoch']}")
    typer.echo("The instance is what it was at the backup; every table's digest is the same.")
    rolled = restore["proof"].get("roll_forward")
    if rolled:
        typer.echo(f"Then rolled forward to offset {rolled['to']}: {rolled['applied']:,} events.")
    tell_revoked(restore.get("revoked"))
    if restore["voided"] and restore["voided"]["total"]:
        typer.echo(
            f"Written behind the fence, and void: {restore['voided']['total']:,} events; "
            f"secryn restore voided {restore['restore_id']}"
        )
    if restore.get("voided_fault"):
        typer.echo(
            f"What was written behind the fence cannot be counted: {restore['voided_fault']}"
        )
    typer.echo(
        "Until the window is over: secryn restore undo --instance ID "
        f"[--token-file {restore['receipt_file']}]"
    )
