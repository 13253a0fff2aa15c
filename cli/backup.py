"""`secryn backup`: make, list, show, fetch and verify backups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.holds import BackupId, delete, hold, release
from cli.listing import list_backups
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, error_of
from cli.progress import shown
from shared.client import BackupClient, take_key
from shared.errors import BackupFailedError, Cancelled, UsageError, error_class

app = typer.Typer(help="Backups of the whole instance.", no_args_is_help=True)

KEY_WARNING = (
    "This key is shown once and stored nowhere. Without it nobody opens the backup.\n"
    "Keep it apart from the file."
)


@app.command()
@command
def create(
    *,
    reason: Annotated[str, typer.Option(help="Why; stands in the history.")] = "by hand",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is proven; show the key.")] = (
        False
    ),
    recipient: Annotated[
        list[str] | None, typer.Option(help="Own age recipient (may be repeated): no key waits.")
    ] = None,
    at_position: Annotated[
        bool, typer.Option("--at-position", help="The store as it stands, without the barrier.")
    ] = False,
    wait_for_restore: Annotated[
        bool,
        typer.Option("--wait-for-restore", help="Queue behind a restore instead of being refused."),
    ] = False,
    key_file: Annotated[
        Path | None, typer.Option(help="Write the key here (0600) instead of showing it.")
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Back the whole instance up."""
    if key_file is not None and not wait:
        raise UsageError("--key-file needs --wait", hint="Add --wait, or use `secryn key view`.")
    if key_file is not None and recipient:
        raise UsageError(
            "with --recipient there is no one-time key", hint="Leave --key-file or --recipient out."
        )
    if key_file is not None:
        _check_writable(key_file)
    with connected(state) as stack:
        asked = stack.backups.create(
            reason,
            recipients=recipient or [],
            at_position=at_position,
            wait_for_restore=wait_for_restore,
        )
        backup: Mapping[str, Any] = asked
        if wait:
            backup = _finish(stack.backups, asked["backup_id"], key_file, as_json)
    emit(backup, as_json, lambda: _tell(backup, key_file))


def _finish(
    backups: BackupClient, backup_id: str, key_file: Path | None, as_json: bool
) -> Mapping[str, Any]:
    with shown("Backup", quiet=as_json) as progress:
        backup = backups.wait(backup_id, progress)
    raise_unless_created(backup)
    if backup["recipients"]:
        return backup
    return {**backup, **_take_key(backups, backup_id, key_file)}


def raise_unless_created(backup: Mapping[str, Any]) -> None:
    """Raise the error that ended ``backup``, if one did."""
    if backup["state"] == "created":
        return
    if backup["state"] == "cancelled":
        raise Cancelled(f"the backup {backup['backup_id']} was cancelled")
    raise error_of(backup, BackupFailedError, f"the backup {backup['backup_id']} failed")


def _check_writable(key_file: Path) -> None:
    """Try it beforehand: no backup is made whose key could not be written."""
    try:
        os.close(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        key_file.unlink()
    except FileExistsError:
        raise UsageError(f"{key_file} exists", hint="Name a file that does not exist.") from None
    except OSError as error:
        raise UsageError(f"{key_file} cannot be written: {error.strerror}") from error


def _take_key(backups: BackupClient, backup_id: str, key_file: Path | None) -> dict[str, str]:
    if key_file is None:
        return {"key": backups.view_key(backup_id)}
    try:
        take_key(backups.view_key, backup_id, key_file)
    except OSError:
        typer.echo(
            "The backup is made; its key is not stored. Once the file can be written, and within "
            f"ten minutes: secryn key view {backup_id} --key-file {key_file}",
            err=True,
        )
        raise
    return {"key_file": str(key_file)}


def _tell(backup: Mapping[str, Any], key_file: Path | None) -> None:
    typer.echo(f"Backup {backup['backup_id']}: {backup['state']}")
    if backup["state"] != "created":
        typer.echo(f"Follow it: secryn backup show {backup['backup_id']}")
        return
    typer.echo(f"Offset {backup['offset']}, {backup['size_bytes']:,} bytes, proven.")
    typer.echo(f"SHA-256 {backup['sha256']}")
    if "key" in backup:
        typer.echo(f"\n{backup['key']}\n{KEY_WARNING}")
    elif key_file is not None:
        typer.echo(f"The key is in {key_file}. {KEY_WARNING}")


app.command("list")(list_backups)


@app.command()
@command
def show(backup_id: BackupId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show all that is known of one backup."""
    with connected(state) as stack:
        backup = stack.backups.get(backup_id)
    emit(backup, as_json)


@app.command()
@command
def download(
    backup_id: BackupId,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write the file.")],
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Write the encrypted file here; checked, whole or not at all."""
    if output.exists():
        raise UsageError(f"{output} exists", hint="Name a file that does not exist.")
    with connected(state) as stack:
        written = stack.backups.download(backup_id, output) | {"file": str(output)}
    emit(
        written,
        as_json,
        lambda: typer.echo(f"{output}: {written['size_bytes']:,} bytes, sha256 checked"),
    )


@app.command()
@command
def verify(backup_id: BackupId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Read the stored object back and compare it, without the key."""
    with connected(state) as stack:
        report = stack.backups.verify(backup_id)
    emit(report, as_json)


@app.command()
@command
def cancel(backup_id: BackupId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Give a running backup up."""
    with connected(state) as stack:
        backup = stack.backups.cancel(backup_id)
    emit(backup, as_json)


@app.command()
@command
def adopt(
    backup_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[BACKUP ...]", help="Ids of the backups.")
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every backup that has a receipt in the storage.")
    ] = False,
    trust_signer: Annotated[
        str | None, typer.Option(help="Fingerprint of a signer you know.")
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Take backups back into a lost history, from the receipts beside the objects."""
    if bool(backup_ids) == everything:
        raise UsageError("give either the ids of backups or --all")
    with connected(state) as stack:
        named = backup_ids or _in_order(stack.backups)
        found = []
        for backup_id in named:
            found.append(stack.backups.adopt(backup_id, trust_signer=trust_signer))
            if not as_json:
                _tell_adopted(found[-1])
    report = {"backups": found} | {
        outcome: len([one for one in found if one["outcome"] == outcome])
        for outcome in ("adopted", "known", "refused")
    }
    emit(report, as_json, lambda: _sum_up(report))
    refused = next((one for one in found if one["outcome"] == "refused"), None)
    if refused is not None:
        raise typer.Exit(error_class(refused["code"]).exit_code)


def _in_order(backups: BackupClient) -> list[str]:
    """Return what has a receipt, the oldest first: the history shows them in this order."""
    found = sorted(backups.receipts(), key=lambda one: str(one["started_at"] or ""))
    return [one["backup_id"] for one in found]


def _tell_adopted(one: Mapping[str, Any]) -> None:
    typer.echo(f"{one['backup_id']}  {one['outcome']}")
    if one["outcome"] == "refused":
        typer.echo(f"  {one['message']} [{one['code']}]\n  {one['hint']}")


def _sum_up(report: Mapping[str, Any]) -> None:
    typer.echo(
        f"{report['adopted']} adopted, {report['known']} known before, {report['refused']} refused."
    )
    if report["adopted"]:
        typer.echo("Keys that waited were lost with the history: stored key files open them.")


for _decision in (hold, release, delete):
    app.command()(_decision)
