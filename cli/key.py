"""`secryn key`: the one-time key, once; which of them wait; whether a key belongs to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.backup import KEY_WARNING
from cli.connect import Connected, connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.archive.keyfile import check_key_file
from shared.client import take_key
from shared.errors import UsageError, error_class

app = typer.Typer(help="One-time keys.", no_args_is_help=True)


@app.command()
@command
def view(  # noqa: PLR0917
    backup_id: Annotated[
        str | None, typer.Argument(metavar="[BACKUP]", help="Id of the backup.")
    ] = None,
    all_waiting: Annotated[
        bool, typer.Option("--all-waiting", help="Every key that waits, into --folder.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(file_okay=False, help="Where BACKUP.key files (0600) go.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the key here (0600) instead of showing it."),
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show the key of a backup: once, to whoever asks first.

    With --key-file or --folder, a call that was stopped is repeated within ten minutes as it was:
    it goes on from there, and no key is lost.
    """
    if all_waiting != (folder is not None) or all_waiting == (backup_id is not None):
        raise UsageError("give either the id of a backup or --all-waiting --folder FOLDER")
    if all_waiting and key_file is not None:
        raise UsageError("--key-file is for one backup: --folder takes the keys of all")
    with connected(state) as stack:
        if folder is not None:
            _view_all(stack, folder, as_json)
        elif backup_id is not None:
            _view_one(stack, backup_id, key_file, as_json)


def _view_one(stack: Connected, backup_id: str, key_file: Path | None, as_json: bool) -> None:
    if key_file is None:
        key = stack.backups.view_key(backup_id)
        document = {"backup_id": backup_id, "key": key}
        emit(document, as_json, lambda: typer.echo(f"{key}\n{KEY_WARNING}"))
        return
    take_key(stack.backups.view_key, backup_id, key_file)
    document = {"backup_id": backup_id, "key_file": str(key_file)}
    emit(document, as_json, lambda: typer.echo(f"The key is in {key_file}. {KEY_WARNING}"))


def _view_all(stack: Connected, folder: Path, as_json: bool) -> None:
    found = []
    for one in stack.keys.take_all(folder):
        found.append(one)
        if not as_json:
            typer.echo(f"{one['backup_id']}  {one.get('key_file') or one['message']}")
    refused = [one for one in found if "code" in one]
    report = {"folder": str(folder), "keys": found, "written": len(found) - len(refused)}
    emit(
        report,
        as_json,
        lambda: typer.echo(
            f"{report['written']} keys written, {len(refused)} refused."
            + (f" {KEY_WARNING}" if report["written"] else "")
        ),
    )
    if refused:
        raise typer.Exit(error_class(refused[0]["code"]).exit_code)


@app.command("list")
@command
def list_keys(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show which keys wait to be viewed, and until when."""
    with connected(state) as stack:
        found = stack.keys.waiting()
    emit(found, as_json, lambda: _tell(found))


def _tell(found: Mapping[str, Any]) -> None:
    for key in found["waiting"]:
        typer.echo(f"{key['backup_id']}  waits since {key['waits_since']}  {_until(key)}")
    if not found["waiting"]:
        typer.echo("No key waits.")
    if found["expired_unseen"]:
        typer.echo(
            f"{found['expired_unseen']} keys expired before anybody viewed them: nobody can open "
            "those backups."
        )


def _until(key: Mapping[str, Any]) -> str:
    """Say until when a key waits."""
    if not key["readable"]:
        return "CANNOT BE GIVEN: its key-encryption key is not in the folder of the keys"
    if key["held_over"]:
        return "past its time, until a newer backup can be opened"
    return f"until {key['expires_at']}"


@app.command()
@command
def check(
    key_file: Annotated[Path, typer.Argument(metavar="KEYFILE", dir_okay=False)],
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", dir_okay=False)],
    as_json: Json = False,
) -> None:
    """Tell, offline, whether KEYFILE opens the file BACKUP."""
    found = check_key_file(key_file, backup)
    emit(found, as_json, lambda: typer.echo("They belong together."))
