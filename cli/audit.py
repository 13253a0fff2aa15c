"""`secryn audit`: who did what; take the trail away; find what was removed or changed in it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.audit_verify import verify
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, plain
from cli.trails import Whose, trails
from shared.errors import UsageError

app = typer.Typer(help="The audit trail: list, export, verify.", no_args_is_help=True)
app.command("verify")(verify)

TIME = "A time with its zone, as 2026-11-24T13:00:00Z."


Actor = Annotated[str | None, typer.Option(help="Who did it.")]
Action = Annotated[
    str | None, typer.Option(help="As key.view; its first words alone name all that begin so.")
]
Outcome = Annotated[str | None, typer.Option(help="success or failure.")]
Resource = Annotated[str | None, typer.Option(help="Id of the backup, restore, token, ...")]
Code = Annotated[str | None, typer.Option(help="The error's code, as access.denied.")]
Correlation = Annotated[str | None, typer.Option("--correlation-id", help="Of one request.")]
Since = Annotated[str | None, typer.Option(help=f"At or after it. {TIME}")]
Until = Annotated[str | None, typer.Option(help=f"Before it. {TIME}")]


@app.command("list")
@command
def list_entries(
    *,
    service: Whose = None,
    actor: Actor = None,
    action: Action = None,
    outcome: Outcome = None,
    resource: Resource = None,
    code: Code = None,
    correlation_id: Correlation = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(help="Entries of one page, up to 1000.")] = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Where the page before ended; takes --service.")
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Show the newest entries, of both services by time, or of one page by page."""
    if cursor is not None and service is None:
        raise UsageError("a cursor is of one service's trail", hint="Name it with --service.")
    asked = {
        "actor": actor, "action": action, "outcome": outcome, "resource": resource, "code": code,
        "correlation_id": correlation_id, "since": since, "until": until,
    }  # fmt: skip
    with connected(state) as stack:
        pages = [
            trail.list(limit=limit, cursor=cursor, **asked)
            for trail in trails(stack, service).values()
        ]
    newest = sorted(
        (entry for page in pages for entry in page["entries"]),
        key=lambda entry: str(entry["time"]),
        reverse=True,
    )
    found = {
        "entries": newest[:limit],
        "next_cursor": pages[0]["next_cursor"] if service else None,
        "total": {page["service"]: page["total"] for page in pages},
    }
    emit(found, as_json, lambda: _tell(found))


@app.command()
@command
def export(
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new file (0600); else to stdout.")
    ] = None,
    service: Whose = None,
    actor: Actor = None,
    action: Action = None,
    outcome: Outcome = None,
    resource: Resource = None,
    code: Code = None,
    correlation_id: Correlation = None,
    since: Since = None,
    until: Until = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Write the entries as JSON lines, each service's from its first one.

    Without a filter the file can be verified anywhere: secryn audit verify --file FILE.
    """
    asked = {
        "actor": actor, "action": action, "outcome": outcome, "resource": resource, "code": code,
        "correlation_id": correlation_id, "since": since, "until": until,
    }  # fmt: skip
    if as_json and output is None:
        raise UsageError("the entries go to stdout", hint="With --json name a file with --output.")
    entries = 0
    with connected(state) as stack, _sink(output) as write:

        def take(chunk: bytes) -> None:
            nonlocal entries
            entries += chunk.count(b"\n")
            write(chunk)

        for trail in trails(stack, service).values():
            trail.export(take, **asked)
    if output is not None:
        document = {"file": str(output), "entries": entries}
        emit(document, as_json, lambda: typer.echo(f"{output} holds {entries:,} entries."))


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[Callable[[bytes], object]]:
    """Give what is written to: a new file that only its owner reads, or stdout."""
    if output is None:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        try:
            yield file.write
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            # A torn file would look like a trail that was cut off.
            output.unlink(missing_ok=True)
            raise


def _tell(found: Mapping[str, Any]) -> None:
    if not found["entries"]:
        typer.echo("No entries.")
    for entry in found["entries"]:
        typer.echo(_text(entry))
    if found["next_cursor"] is not None:
        typer.echo(f"There are more: --cursor {found['next_cursor']}")


def _text(entry: Mapping[str, Any]) -> str:
    on = entry["resources"][0]
    code = f" [{plain(entry['status_code'])}]" if entry["status_code"] else ""
    return (
        f"{entry['time'][:19]}Z  {entry['service']:<15} {entry['seq']:>6}  {entry['status']:<7}"
        f"  {plain(entry['api']['operation'])}{code}  {plain(on['type'])} {plain(on['uid'])}"
        f"  by {plain(entry['actor']['user']['name'])}  {plain(entry['src_endpoint']['name'])}"
    )
