"""`secryn restore preview`: what a restore would undo, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, error_of, plain
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
from shared.errors import PreviewFailed, TargetMismatch

TYPE_PREFIX = "com.secryn.instance."
NAMED = 10
TITLES = {
    "users": "users",
    "users_enabled": "users who were disabled since",
    "roles": "roles",
    "role_permissions": "permissions of roles",
    "role_bindings": "role bindings",
}


@command
def preview(
    *,
    key_file: KeyFile,
    instance: Annotated[str, typer.Option(help="Id of the instance that would be replaced.")],
    backup: Backup = None,
    file: File = None,
    source_instance: SourceInstance = None,
    trust_signer: TrustSigner = None,
    roll_forward: RollForward = None,
    newest: Annotated[
        int, typer.Option(min=0, max=200, help="Name so many of the newest events.")
    ] = 20,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show what a restore would undo and whose access it would bring back; changes nothing."""
    check_one_source(backup, file)
    key_text = read_key(key_file)
    with connected(state) as stack:
        if instance != stack.instance_id:
            raise TargetMismatch(
                f"this stack holds the instance {stack.instance_id}, not {instance}"
            )
        asked = stack.restores.preview(
            target_instance_id=instance,
            key_file_text=key_text,
            newest=newest,
            backup_id=backup,
            upload=None if file is None else stack.restores.upload(file),
            source_instance_id=source_instance,
            trust_signer=trust_signer,
            environment=stack.environment,
            roll_forward=roll_forward_of(roll_forward),
        )
        with shown("Preview", quiet=as_json) as progress:
            found = stack.restores.wait_preview(asked["preview_id"], progress)
    if found["state"] != "previewed":
        raise error_of(found, PreviewFailed, f"the preview was {found['state']}")
    emit(found, as_json, lambda: _tell(found))


def _tell(found: Mapping[str, Any]) -> None:
    _tell_events(found["events"])
    access, offset = found["access"], found["access"]["as_of_offset"]
    typer.echo(f"\nWhose access it would bring back (the state at offset {offset}):")
    _tell_access(access["returning"])
    typer.echo("Whose access would be gone, for it came later:")
    _tell_access(access["vanishing"])
    if found["roll_forward"] is not None and offset != found["events"]["to"]:
        typer.echo(
            f"The access shown is that of offset {offset}: what the roll-forward would apply "
            "behind it cannot be told."
        )
    typer.echo("\nNothing was changed.")


def _tell_events(events: dict[str, Any]) -> None:
    if not events["counted"]:
        typer.echo(f"What it would undo cannot be counted: {events['reason']['message']}.")
        return
    typer.echo(f"It would undo {events['total']:,} events behind offset {events['to']}.")
    for title, counts in (("By kind", events["by_kind"]), ("By actor", events["by_actor"])):
        if counts:
            typer.echo(f"{title}:")
        for name, count in counts.items():
            typer.echo(f"  {count:>9,}  {name.removeprefix(TYPE_PREFIX)}")
    if events["newest"]:
        typer.echo("The newest:")
    for event in events["newest"]:
        what = plain(event["name"] or event["id"] or "")
        kind = event["kind"].removeprefix(TYPE_PREFIX)
        who = plain(event["actor"])
        typer.echo(f"  {event['offset']:>9}  {event['time']}  {kind}  {who}  {what}")


def _tell_access(access: dict[str, Any]) -> None:
    counted = [(kind, entry) for kind, entry in access.items() if entry["count"]]
    if not counted:
        typer.echo("  nobody's")
    for kind, entry in counted:
        typer.echo(f"  {entry['count']:>9,}  {TITLES[kind]}: {_names(entry)}")


def tell_revoked(revoked: dict[str, Any] | None) -> None:
    """Say which returning access a restore revoked."""
    if revoked is None:
        return
    typer.echo(f"Access that came back was revoked by {revoked['events']:,} events:")
    _tell_access({kind: revoked[kind] for kind in TITLES})


def _names(entry: Mapping[str, Any]) -> str:
    names = [plain(_name(row)) for row in entry["named"][:NAMED]]
    left = entry["count"] - len(names)
    return ", ".join(names if not left else [*names, f"and {left:,} more"])


def _name(row: dict[str, Any]) -> str:
    if "permission" in row:
        return f"{row['role']}: {row['permission']}"
    if "scope_kind" in row:
        scope = "" if row["scope_id"] is None else f" {row['scope_id']}"
        return f"{row['user']} as {row['role']} on {row['scope_kind']}{scope}"
    return str(row.get("username") or row.get("name") or row["id"])
