"""`secryn schedule`: when backups are made by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli import timing
from cli.backup import raise_unless_created
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from cli.progress import shown
from shared.errors import UsageError

app = typer.Typer(help="When backups are made by themselves.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; stands in the audit trail.")]
IfMatch = Annotated[
    str | None,
    typer.Option(help="The etag that `schedule show --json` gave: set nothing if it is another."),
]


@app.command()
@command
def show(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show the schedule and its next ten runs."""
    with connected(state) as stack:
        found = stack.configuration.schedule()

    def tell() -> None:
        _tell(found)
        _tell_runs(found)

    emit(found, as_json, tell)


@app.command()
@command
def run(
    reason: Annotated[str, typer.Option(help="Why; stands in the history.")] = (
        "the schedule, by hand"
    ),
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is proven.")] = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Make a backup now as the schedule would; its key waits for `secryn key view`."""
    with connected(state) as stack:
        backup = stack.configuration.run_schedule(reason)
        if wait:
            with shown("Backup", quiet=as_json) as progress:
                backup = stack.backups.wait(backup["backup_id"], progress)
            raise_unless_created(backup)
    emit(
        backup,
        as_json,
        lambda: typer.echo(f"Backup {backup['backup_id']}: {backup['state']}"),
    )


@app.command("set")
@command
def set_schedule(
    *,
    enabled: timing.Enabled = None,
    frequency: timing.Frequency = None,
    at: timing.At = None,
    weekday: timing.Weekday = None,
    day: timing.Day = None,
    cron: timing.Cron = None,
    zone: timing.Zone = None,
    missed: timing.Missed = None,
    jitter_s: timing.JitterS = None,
    pause_until: timing.PauseUntil = None,
    after_events: Annotated[
        str | None, typer.Option(help="A backup after so many events, too; `no`: none.")
    ] = None,
    skip_if_unchanged: Annotated[
        bool | None,
        typer.Option("--skip-if-unchanged/--even-if-unchanged", help="Skip where nothing changed."),
    ] = None,
    recipient: Annotated[
        list[str] | None, typer.Option(help="Own age recipient (may be repeated); `no`: none.")
    ] = None,
    if_match: IfMatch = None,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Change what is named here, and nothing else of the schedule."""
    wished: dict[str, Any] = {
        "enabled": enabled, "frequency": frequency, "at": at, "weekday": weekday, "day": day,
        "cron": cron, "zone": zone, "missed": missed, "jitter_s": jitter_s,
        "paused_until": pause_until, "after_events": after_events,
        "skip_if_unchanged": skip_if_unchanged, "recipients": recipient,
    }  # fmt: skip
    wished = {name: value for name, value in wished.items() if value is not None}
    if not wished:
        raise UsageError("nothing is to be set", hint="Name what: `secryn schedule set --help`.")
    with connected(state) as stack:
        now = stack.configuration.get("schedule")
        value = _changed(now["value"], wished)
        found = stack.configuration.set("schedule", value, if_match or now["etag"], reason)
    emit(found, as_json, lambda: _tell(found))


def _changed(value: Mapping[str, Any], wished: dict[str, Any]) -> dict[str, Any]:
    changed = timing.changed(value, wished)
    if "after_events" in wished:
        changed["after_events"] = _events(wished["after_events"])
    if wished.get("recipients") == ["no"]:
        changed["recipients"] = []
    return changed


def _events(text: str) -> int | None:
    if text == "no":
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(
            f"--after-events {text!r} is no number of events", hint="Write 1000, say, or `no`."
        )
    return int(text)


@app.command()
@command
def confirm(
    if_match: IfMatch = None,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Let the schedule that a restore brought hold, its recipients too."""
    with connected(state) as stack:
        etag = if_match or stack.configuration.get("schedule")["etag"]
        found = stack.configuration.confirm("schedule", etag, reason)
    emit(found, as_json, lambda: _tell(found))


def _tell(found: Mapping[str, Any]) -> None:
    value = found["value"]
    state = "on" if value["enabled"] else "off"
    typer.echo(f"Schedule {state}: {timing.rule_of(value)}")
    if value["paused_until"] is not None:
        typer.echo(f"Paused until {value['paused_until']}.")
    if value["after_events"] is not None:
        typer.echo(f"Also after {value['after_events']:,} events.")
    if value["skip_if_unchanged"]:
        typer.echo("Skipped where nothing changed.")
    for recipient in value["recipients"]:
        typer.echo(f"Encrypted to {recipient[:24]}...")
    if found["changed_by"] is not None:
        typer.echo(f"Set by {found['changed_by']} at {found['changed_at']}.")
    if found["fault"] is not None:
        typer.echo(f"WHAT IS STORED CANNOT BE READ: {found['fault']}")
    if not found["confirmed"]:
        typer.echo(f"NOT CONFIRMED: {_WHY[found['origin']]} `secryn schedule confirm`")


def _tell_runs(found: Mapping[str, Any]) -> None:
    last = found["last_tick"]
    if last is not None:
        about = f" (backup {last['backup_id']})" if last["backup_id"] else ""
        typer.echo(f"Last: {last['tick']}, {_BECAME[last['outcome']]}{about}")
    if not found["next_runs"]:
        typer.echo(
            "It runs no more by itself." if found["value"]["enabled"] else "It does not run."
        )
    for run in found["next_runs"]:
        typer.echo(f"  {run['local']}")


_BECAME = {
    "run": "backup asked for",
    "skipped": "missed, and skipped",
    "overlapped": "the one before was still going",
    "unchanged": "nothing had changed",
}
_WHY = {
    "restored": "a restore brought it back; nobody is encrypted to whom it names before",
    "foreign": "it came with another instance's data, and is paused before",
    "unheard": "a restore is over, and it is paused before it is known of what, or before",
    "written": "somebody wrote it past this service; nobody is encrypted to whom it names before",
}
