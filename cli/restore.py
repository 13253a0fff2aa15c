"""`secryn restore`: replace the whole instance by a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import rehearse
from cli.confirm import confirm_instance
from cli.connect import Connected, connected
from cli.options import DEFAULT_STATE, Json, MeantEnvironment, State, TokenFile
from cli.output import command, emit
from cli.preview import preview, tell_revoked
from cli.progress import shown
from cli.sources import (
    Backup,
    File,
    KeyFile,
    RollForward,
    SourceInstance,
    TrustSigner,
    check_one_source,
    read_key,
    roll_forward_of,
)
from cli.voided import reapply, voided
from shared.client.restores import RECEIPT_KIND, new_receipt_secret, receipt_of
from shared.errors import RestoreFailedError, error_class
from shared.secretfiles import read_secret_file, write_secret_file

app = typer.Typer(help="Restores: the whole instance, or nothing.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; stands in the history.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ReceiptFile = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        help="Where the receipt goes, which watches and undoes this restore; default: in the state.",
    ),
]
RestoreId = Annotated[str, typer.Argument(metavar="RESTORE", help="Id of the restore.")]

app.command()(preview)
app.command()(voided)
app.command()(reapply)


@app.command()
@command
def run(
    *,
    key_file: KeyFile,
    instance: Annotated[str, typer.Option(help="Id of the instance that will be replaced.")],
    environment: MeantEnvironment = None,
    backup: Backup = None,
    file: File = None,
    source_instance: SourceInstance = None,
    trust_signer: TrustSigner = None,
    roll_forward: RollForward = None,
    cancel_running_backup: Annotated[
        bool,
        typer.Option(
            "--cancel-running-backup", help="Do not wait for a backup that is being made."
        ),
    ] = False,
    outside_window: Annotated[
        str | None, typer.Option(metavar="REASON", help="Why outside of the maintenance windows.")
    ] = None,
    revoke_returning: Annotated[
        bool,
        typer.Option(
            "--revoke-returning",
            help="Remove again, right behind the restore, what access was removed since the backup.",
        ),
    ] = False,
    receipt_file: ReceiptFile = None,
    reason: Reason = "by hand",
    yes: Yes = False,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Replace the whole instance by a backup."""
    check_one_source(backup, file)
    key_text, secret = read_key(key_file), new_receipt_secret()
    with connected(state, token_file) as stack:
        confirm_instance(
            stack, instance, yes, "This replaces EVERYTHING in", environment, also=_space
        )
        upload = None if file is None else stack.restores.upload(file)
        restore = stack.restores.start(
            target_instance_id=instance,
            key_file_text=key_text,
            reason=reason,
            backup_id=backup,
            upload=upload,
            source_instance_id=source_instance,
            trust_signer=trust_signer,
            environment=environment,
            roll_forward=roll_forward_of(roll_forward),
            outside_window=outside_window,
            cancel_running_backup=cancel_running_backup,
            receipt_secret=secret,
            revoke_returning=revoke_returning,
        )
        restore = _watched(stack, restore["restore_id"], secret, receipt_file, as_json)
    _raise_unless_restored(restore)
    emit(restore, as_json, lambda: _tell(restore))


@app.command()
@command
def undo(
    restore_id: Annotated[
        str | None, typer.Argument(metavar="[RESTORE]", help="The last restore, to be sure.")
    ] = None,
    *,
    instance: Annotated[str, typer.Option(help="Id of the instance that will be replaced.")],
    environment: MeantEnvironment = None,
    receipt_file: ReceiptFile = None,
    reason: Reason = "by hand",
    yes: Yes = False,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Put back what the last restore replaced; what was written since is lost with its state."""
    secret = new_receipt_secret()
    with connected(state, token_file) as stack:
        confirm_instance(stack, instance, yes, "This replaces EVERYTHING in", environment)
        undone = stack.restores.undo(
            target_instance_id=instance,
            reason=reason,
            restore_id=restore_id or _named_by_receipt(token_file),
            environment=environment,
            receipt_secret=secret,
        )
        undone = _watched(stack, undone["restore_id"], secret, receipt_file, as_json)
    _raise_unless_restored(undone)
    emit(undone, as_json, lambda: _tell_undo(undone))


def _named_by_receipt(token_file: Path | None) -> str | None:
    """Return the restore that a receipt is for; None for every other token."""
    if token_file is None:
        return None
    kind, _, rest = read_secret_file(token_file).decode("ascii").partition(".")
    return rest.partition(".")[0] if kind == RECEIPT_KIND else None


def _watched(
    stack: Connected, restore_id: str, secret: str, receipt_file: Path | None, as_json: bool
) -> dict[str, Any]:
    """Keep the receipt, and watch with it: what started the restore may end with it."""
    file = receipt_file or stack.folder.root / "receipts" / restore_id
    file.parent.mkdir(mode=0o700, exist_ok=True)
    receipt = receipt_of(restore_id, secret)
    write_secret_file(file, f"{receipt}\n".encode("ascii"), exist_ok=True)
    watching = stack.restores.with_receipt(receipt)
    with watching.connection, shown("Restore", quiet=as_json) as progress:
        return watching.wait(restore_id, progress) | {"receipt_file": str(file)}


def _tell_undo(undone: dict[str, Any]) -> None:
    typer.echo(f"Undo {undone['restore_id']}: {undone['state']}, epoch {undone['epoch']}")
    typer.echo(f"The instance is what it was before restore {undone['undo_of']}.")


def _space(stack: Connected) -> str:
    """Tell what the present state costs while it is kept."""
    space = stack.restores.space()
    kept, free = (_bytes(space[name]) for name in ("kept_bytes", "free_bytes"))
    return (
        f"The present state ({kept}) is kept for {space['kept_s'] // 3600} "
        f"hours, to undo it. Free on the database's disk: {free}."
    )


def _bytes(count: int | None) -> str:
    return "of unknown size" if count is None else f"{count:,} bytes"


def _raise_unless_restored(restore: dict[str, Any]) -> None:
    if restore["state"] == "restored":
        return
    fault = restore.get("error") or {}
    raise error_class(str(fault.get("code", RestoreFailedError.code)))(
        str(fault.get("message", f"the restore {restore['restore_id']} was {restore['state']}")),
        hint=fault.get("hint"),
    )


def _tell(restore: dict[str, Any]) -> None:
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
    typer.echo(
        "Until the window is over: secryn restore undo --instance ID "
        f"[--token-file {restore['receipt_file']}]"
    )


@app.command("list")
@command
def list_restores(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show all restores, the newest first."""
    with connected(state) as stack:
        found = stack.restores.list()

    def tell() -> None:
        if not found["restores"]:
            typer.echo("No restores yet.")
        for restore in found["restores"]:
            typer.echo(
                f"{restore['restore_id']}  {restore['state']:<9}  "
                f"backup {restore.get('backup_id') or '-'}  {restore.get('requested_at', '')}"
            )

    emit(found, as_json, tell)


@app.command()
@command
def show(
    restore_id: RestoreId,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show all that is known of one restore."""
    with connected(state, token_file) as stack:
        restore = stack.restores.get(restore_id)
    emit(restore, as_json)


@app.command()
@command
def cancel(restore_id: RestoreId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Give a restore up; possible until the cut-over begins."""
    with connected(state) as stack:
        restore = stack.restores.cancel(restore_id)
    emit(restore, as_json)


app.command("rehearse")(rehearse.rehearse)
app.command("chain")(rehearse.chain)
app.add_typer(rehearse.app, name="rehearsal")
