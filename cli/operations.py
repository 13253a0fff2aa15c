"""`secryn operations`: what was done, by whom, on what, and how it ended; live with --follow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, plain

TIME = "A time with its zone, as 2026-11-24T13:00:00Z."
KINDS = (
    "backup, restore, undo, rehearsal, verification, key_view, purge, configuration, adoption, ...; "
    "may be repeated."
)
OUTCOMES = "requested, approved, running, succeeded, failed or cancelled; may be repeated."


@command
def operations(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, line by line.")] = False,
    kind: Annotated[list[str] | None, typer.Option(help=KINDS)] = None,
    outcome: Annotated[list[str] | None, typer.Option(help=OUTCOMES)] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Id of the backup, restore or rehearsal.")
    ] = None,
    since: Annotated[str | None, typer.Option(help=f"Begun at or after it. {TIME}")] = None,
    until: Annotated[str | None, typer.Option(help=f"Begun before it. {TIME}")] = None,
    limit: Annotated[int, typer.Option(help="Operations of one page, up to 1000.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show recent operations, the newest first; with --follow each change, as a JSON line or text."""
    filters = {
        "kind": kind, "outcome": outcome, "actor": actor, "subject": subject, "since": since,
        "until": until,
    }  # fmt: skip
    with connected(state) as stack:
        found = stack.operations.list(limit=limit, cursor=cursor, **filters)
        if not follow:
            emit(found, as_json, lambda: _tell(found))
            return
        for operation in reversed(found["operations"]):
            _line(operation, as_json)
        # What changed while the list was read comes with both.
        told = {one["operation_id"]: one["position"] for one in found["operations"]}
        for operation in stack.operations.follow(found["position"], **filters):
            if told.get(operation["operation_id"]) != operation["position"]:
                _line(operation, as_json)


def _tell(found: Mapping[str, Any]) -> None:
    if not found["operations"]:
        typer.echo("No operations.")
    for operation in found["operations"]:
        typer.echo(_text(operation))
    if found["next_cursor"] is not None:
        typer.echo(f"There are more: --cursor {found['next_cursor']}")


def _line(operation: Mapping[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(operation, ensure_ascii=False) if as_json else _text(operation))


def _text(operation: Mapping[str, Any]) -> str:
    took = "" if not operation["duration_s"] else f" in {operation['duration_s']:.1f} s"
    why = f" [{operation['code']}]" if operation["code"] else ""
    reason = f" ({plain(operation['reason'])})" if operation["reason"] else ""
    return (
        f"{operation['started_at'][:19]}Z  {operation['kind']:<13} {operation['outcome']}{took}{why}"
        f"  {operation['subject_type']} {plain(operation['subject'])}"
        f"  by {plain(operation['actor'])}{reason}  -> {operation['where_to_look']}"
    )
