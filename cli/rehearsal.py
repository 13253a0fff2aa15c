"""`secryn rehearsal`: when the newest backup is rehearsed by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli import timing
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit
from shared.errors import UsageError

app = typer.Typer(help="When the newest backup is rehearsed by itself.", no_args_is_help=True)

_DAY_S = 86_400


@app.command()
@command
def show(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show when rehearsals run, with whose identity, and what came of the last one."""
    with connected(state) as stack:
        found = stack.rehearsals.schedule()
    emit(found, as_json, lambda: _tell(found))


@app.command("set")
@command
def set_rehearsal(
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
    fold_log: Annotated[
        bool | None, typer.Option("--fold/--no-fold", help="Fold the whole log to compare with.")
    ] = None,
    within_days: Annotated[
        float | None, typer.Option(help="An alarm when none was good for so many days; 0: none.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit trail.")] = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Change what is named here, and nothing else."""
    wished: dict[str, Any] = {
        "enabled": enabled, "frequency": frequency, "at": at, "weekday": weekday, "day": day,
        "cron": cron, "zone": zone, "missed": missed, "jitter_s": jitter_s,
        "paused_until": pause_until, "fold_log": fold_log,
    }  # fmt: skip
    wished = {name: value for name, value in wished.items() if value is not None}
    if within_days is not None:
        wished["within_s"] = round(within_days * _DAY_S) or None
    if not wished:
        raise UsageError("nothing is to be set", hint="Name what: `secryn rehearsal set --help`.")
    with connected(state) as stack:
        now = stack.configuration.get("rehearsal")
        value = timing.changed(now["value"], wished)
        stack.configuration.set("rehearsal", value, now["etag"], reason)
        found = stack.rehearsals.schedule()
    emit(found, as_json, lambda: _tell(found))


def _tell(found: Mapping[str, Any]) -> None:
    value = found["value"]
    typer.echo(f"Rehearsals {'on' if value['enabled'] else 'off'}: {timing.rule_of(value)}")
    if found["fault"] is not None:
        typer.echo(f"IT CANNOT BE READ: {found['fault']}")
    elif found["identity"] is None:
        typer.echo(
            "This place has no identity that opens backups, so none is rehearsed by itself: "
            "name its file as rehearsal.identity_file in the settings of restore_service."
        )
    else:
        typer.echo(f"With the identity of {found['identity']}.")
    last, good = found["last_tick"], found["last_restorable"]
    if last is not None:
        became = last["error"]["message"] if last["error"] else f"rehearsal {last['rehearsal_id']}"
        typer.echo(f"Last: {last['tick']}, {became}")
    if good is not None:
        typer.echo(f"Last found restorable: backup {good['backup_id']} at {good['ended_at']}")
    if found["stale"]:
        typer.echo(f"STALE: none was found restorable within {value['within_s'] / _DAY_S:g} days.")
    for run in found["next_runs"]:
        typer.echo(f"  {run['local']}")
