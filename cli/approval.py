"""`secryn restore approve`, `start` and `approval`: a restore takes two persons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State, TokenFile
from cli.output import command, emit
from cli.sources import KeyFile, read_key
from cli.watching import ReceiptFile, raise_unless_restored, tell_restored, watched
from shared.client.restores import new_receipt_secret

app = typer.Typer(
    help="Whether a restore must be approved by a second person.", no_args_is_help=True
)

RestoreId = Annotated[str, typer.Argument(metavar="RESTORE", help="Id of the restore.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the history.")]


def tell_waiting(restore: Mapping[str, Any]) -> None:
    """Tell a person for whom a restore waits, until when, and what to type next."""
    restore_id = restore["restore_id"]
    typer.echo(f"Restore {restore_id} waits until {restore['expires_at']} for the approval of")
    typer.echo(f"  {' or '.join(restore['approvers'])}: secryn restore approve {restore_id}")
    typer.echo("Nothing was begun, and the key was not kept. Give it again after the approval:")
    typer.echo(f"  secryn restore start {restore_id} --key-file KEYFILE")


@command
def approve(
    restore_id: RestoreId,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Approve a restore that another person asked for."""
    with connected(state, token_file) as stack:
        restore = stack.restores.approve(restore_id)

    def tell() -> None:
        typer.echo(f"Restore {restore_id}: {restore['state']} by {restore['approved_by']}.")
        typer.echo(f"Until {restore['expires_at']}, with the key that it was asked for with:")
        typer.echo(f"  secryn restore start {restore_id} --key-file KEYFILE")

    emit(restore, as_json, tell)


@command
def start(
    restore_id: RestoreId,
    *,
    key_file: KeyFile,
    receipt_file: ReceiptFile = None,
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Begin a restore that was approved, with the key that it was asked for with."""
    key_text, secret = read_key(key_file), new_receipt_secret()
    with connected(state, token_file) as stack:
        stack.restores.start_approved(restore_id, key_text, receipt_secret=secret)
        restore = watched(stack, restore_id, secret, receipt_file, as_json)
    raise_unless_restored(restore)
    emit(restore, as_json, lambda: tell_restored(restore))


@app.command()
@command
def show(token_file: TokenFile = None, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show whether restores must be approved, by whom they can be, and a change that waits."""
    with connected(state, token_file) as stack:
        policy = stack.restores.approval_policy()
    emit(policy, as_json, lambda: _tell_policy(policy))


@app.command()
@command
def on(
    reason: Reason = "by hand",
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Have every restore approved by a second person; it takes two who may approve."""
    with connected(state, token_file) as stack:
        policy = stack.restores.require_approval(True, reason)
    emit(policy, as_json, lambda: _tell_policy(policy))


@app.command()
@command
def off(
    reason: Reason = "by hand",
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Ask for the policy to be switched off: another person approves that."""
    with connected(state, token_file) as stack:
        policy = stack.restores.require_approval(False, reason)
    emit(policy, as_json, lambda: _tell_policy(policy))


@app.command("approve")
@command
def approve_change(
    change_id: Annotated[str, typer.Argument(metavar="CHANGE", help="Id of the change.")],
    token_file: TokenFile = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Approve that the policy is switched off, as another person asked."""
    with connected(state, token_file) as stack:
        policy = stack.restores.approve_change(change_id)
    emit(policy, as_json, lambda: _tell_policy(policy))


def _tell_policy(policy: Mapping[str, Any]) -> None:
    required = "must" if policy["required"] else "need not"
    typer.echo(f"Restores {required} be approved by a second person.")
    typer.echo(f"Who may approve: {', '.join(policy['approvers'])}")
    pending = policy["pending"]
    if pending:
        typer.echo(
            f"{pending['requested_by']} asks for it to be switched off; until "
            f"{pending['expires_at']} another person may say:"
        )
        typer.echo(f"  secryn restore approval approve {pending['change_id']}")
