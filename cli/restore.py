"""`secryn restore`: replace the whole instance by a backup."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import approval, rehearse
from cli.approval import tell_waiting
from cli.confirm import confirm_instance
from cli.connect import Connected, connected
from cli.options import DEFAULT_STATE, Json, MeantEnvironment, State, TokenFile
from cli.output import command, emit
from cli.preview import preview
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
from cli.strays import drop_stray
from cli.voided import reapply, voided
from cli.watching import ReceiptFile, raise_unless_restored, tell_restored, watched
from shared.client.restores import AWAITING_APPROVAL, RECEIPT_KIND, new_receipt_secret
from shared.secretfiles import read_secret_file

app = typer.Typer(help="Restores: the whole instance, or nothing.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; stands in the history.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
RestoreId = Annotated[str, typer.Argument(metavar="RESTORE", help="Id of the restore.")]

app.command()(preview)
app.command()(voided)
app.command()(reapply)
app.command()(drop_stray)


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
    local: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Break the glass: do without the approval, as the local operator. It is heard.",
        ),
    ] = None,
    receipt_file: ReceiptFile = None,
    reason: Reason = "by hand",
    yes: Yes = False,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Replace the whole instance by a backup; where the policy says so, ask for it to be approved."""
    check_one_source(backup, file)
    key_text, secret = read_key(key_file), new_receipt_secret()
    with connected(state, token_file) as stack:
        confirm_instance(
            stack, instance, yes, "This replaces EVERYTHING in", environment, also=_space
        )
        upload = None if file is None else stack.restores.upload(file)
        asked = stack.restores.start(
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
            break_glass=local,
        )
        if asked["state"] == AWAITING_APPROVAL:
            emit(asked, as_json, lambda: tell_waiting(asked))
            return
        restore = watched(stack, asked["restore_id"], secret, receipt_file, as_json)
    raise_unless_restored(restore)
    emit(restore, as_json, lambda: tell_restored(restore))


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
        asked = stack.restores.undo(
            target_instance_id=instance,
            reason=reason,
            restore_id=restore_id or _named_by_receipt(token_file),
            environment=environment,
            receipt_secret=secret,
        )
        undone = watched(stack, asked["restore_id"], secret, receipt_file, as_json)
    raise_unless_restored(undone)
    emit(undone, as_json, lambda: _tell_undo(undone))


def _named_by_receipt(token_file: Path | None) -> str | None:
    """Return the restore that a receipt is for; None for every other token."""
    if token_file is None:
        return None
    kind, _, rest = read_secret_file(token_file).decode("ascii").partition(".")
    return rest.partition(".")[0] if kind == RECEIPT_KIND else None


def _tell_undo(undone: Mapping[str, Any]) -> None:
    typer.echo(f"Undo {undone['restore_id']}: {undone['state']}, epoch {undone['epoch']}")
    kept = undone.get("checks", {}).get("kept", {})
    if (left_out := kept.get("left_out")) is None:
        typer.echo(f"The instance is what it was before restore {undone['undo_of']}.")
        return
    typer.echo(
        f"The instance is what it was at offset {kept['offset']} of its log, and not what it was "
        f"before restore {undone['undo_of']}, at {kept['fence_offset']}: {left_out['message']}"
    )


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
                f"{restore['restore_id']}  {restore['state']:<17}  "
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
app.command()(approval.approve)
app.command()(approval.start)
app.add_typer(approval.app, name="approval")
