"""`secryn restore rehearse` and `chain`: prove a backup, without touching the instance."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import Connected, connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, error_of
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
from shared.errors import (
    RehearsalDiffers,
    RestoreFailedError,
    TargetMismatch,
)

app = typer.Typer(help="Rehearsals there were, and the one that runs.", no_args_is_help=True)

Instance = Annotated[str, typer.Option(help="Id of this instance; nothing of it is changed.")]
Reason = Annotated[str, typer.Option(help="Why; stands in the history.")]
RehearsalId = Annotated[str, typer.Argument(metavar="REHEARSAL", help="Id of the rehearsal.")]


@command
def rehearse(
    *,
    key_file: KeyFile,
    instance: Instance,
    backup: Backup = None,
    file: File = None,
    source_instance: SourceInstance = None,
    trust_signer: TrustSigner = None,
    roll_forward: RollForward = None,
    expect_digest: Annotated[
        str | None,
        typer.Option(help="What `instance digest` must say behind the roll-forward."),
    ] = None,
    no_fold: Annotated[
        bool, typer.Option("--no-fold", help="Do not fold the whole log to compare with.")
    ] = False,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Do all of a restore but the cut-over, beside the instance; say what it would take and give."""
    check_one_source(backup, file)
    key_text = read_key(key_file)
    with connected(state) as stack:
        _check_instance(stack, instance)
        asked = stack.rehearsals.start(
            target_instance_id=instance,
            key_file_text=key_text,
            reason=reason,
            backup_id=backup,
            upload=None if file is None else stack.restores.upload(file),
            source_instance_id=source_instance,
            trust_signer=trust_signer,
            environment=stack.environment,
            roll_forward=roll_forward_of(roll_forward),
            expect_digest=expect_digest,
            fold_log=not no_fold,
        )
        _finish(stack, asked["rehearsal_id"], as_json)


@command
def chain(
    *,
    backup: Annotated[str, typer.Option(help="Id of the older backup.")],
    key_file: KeyFile,
    following: Annotated[
        str, typer.Option("--next", help="Id of the newer one; its key is not needed.")
    ],
    instance: Instance,
    trust_signer: TrustSigner = None,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Prove two backups by each other: the older one and the log between must give the newer one."""
    key_text = read_key(key_file)
    with connected(state) as stack:
        _check_instance(stack, instance)
        asked = stack.rehearsals.start(
            target_instance_id=instance,
            key_file_text=key_text,
            reason=reason,
            backup_id=backup,
            trust_signer=trust_signer,
            environment=stack.environment,
            next_backup_id=following,
            fold_log=False,
        )
        _finish(stack, asked["rehearsal_id"], as_json)


def _check_instance(stack: Connected, instance: str) -> None:
    if instance != stack.instance_id:
        raise TargetMismatch(f"this stack holds the instance {stack.instance_id}, not {instance}")


def _finish(stack: Connected, rehearsal_id: str, as_json: bool) -> None:
    """Watch to the end; end with the code of what was found."""
    with shown("Rehearsal", quiet=as_json) as progress:
        rehearsal = stack.rehearsals.wait(rehearsal_id, progress)
    if rehearsal["state"] != "rehearsed":
        raise error_of(rehearsal, RestoreFailedError, f"the rehearsal was {rehearsal['state']}")
    emit(rehearsal, as_json, lambda: _tell(rehearsal))
    if rehearsal["outcome"] != "restorable":
        differs = RehearsalDiffers("the state is not the one that it must be")
        typer.echo(f"secryn: {differs.message} [{differs.code}]\n  {differs.advice}", err=True)
        sys.exit(differs.exit_code)


def _tell(rehearsal: Mapping[str, Any]) -> None:
    proof, estimate = rehearsal["proof"], rehearsal["estimate"]
    typer.echo(f"Backup {rehearsal['backup_id']}: {rehearsal['outcome']}")
    typer.echo(f"{rehearsal['rows']:,} rows of {rehearsal['size_bytes']:,} bytes, each compared.")
    rolled = proof["roll_forward"]
    if rolled is not None:
        typer.echo(f"Rolled forward to offset {rolled['to']}: {rolled['applied']:,} events.")
        _tell_compared(rolled, "what is expected there")
    if proof["equivalence"] is not None:
        _tell_compared(proof["equivalence"], "the log, folded up to the backup")
    typer.echo(
        f"A restore would take about {estimate['restore_s']:.1f} s; writers would wait for "
        f"{estimate['writers_held_s']:.1f} s of them."
    )
    for obstacle in rehearsal["obstacles"]:
        typer.echo(f"It would be refused now: {obstacle['message']} [{obstacle['code']}]")


def _tell_compared(compared: Mapping[str, Any], what: str) -> None:
    equal = compared.get("equivalent", compared.get("equal"))
    if equal is None:
        reason = compared.get("reason")
        if reason is not None:
            typer.echo(f"Not compared with {what}: {reason['message']} [{reason['code']}]")
    elif equal:
        typer.echo(f"The same as {what}.")
    else:
        tables = ", ".join(entry["table"] for entry in compared.get("differing", ()))
        typer.echo(f"NOT the same as {what}{f': {tables}' if tables else ''}")


@app.command("list")
@command
def list_rehearsals(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show all rehearsals, the newest first."""
    with connected(state) as stack:
        found = stack.rehearsals.list()

    def tell() -> None:
        if not found["rehearsals"]:
            typer.echo("No rehearsals yet.")
        for rehearsal in found["rehearsals"]:
            typer.echo(
                f"{rehearsal['rehearsal_id']}  {rehearsal['outcome'] or rehearsal['state']:<10}  "
                f"backup {rehearsal['backup_id'] or '-'}  {rehearsal['requested_at']}"
            )

    emit(found, as_json, tell)


@app.command()
@command
def show(rehearsal_id: RehearsalId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show all that is known of one rehearsal."""
    with connected(state) as stack:
        rehearsal = stack.rehearsals.get(rehearsal_id)
    emit(rehearsal, as_json)


@app.command()
@command
def cancel(rehearsal_id: RehearsalId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Give a rehearsal up."""
    with connected(state) as stack:
        rehearsal = stack.rehearsals.cancel(rehearsal_id)
    emit(rehearsal, as_json)
