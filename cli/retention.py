"""`secryn retention`: which backups are purged, and by which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit, error_of, plain
from cli.progress import shown
from shared.errors import ConflictError, UsageError

app = typer.Typer(help="Which backups are purged, and by which rule.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Why; stands in the audit trail.")]
IfMatch = Annotated[
    str | None,
    typer.Option(help="The etag that `retention show --json` gave: set nothing if it is another."),
]
KeepLast = Annotated[int | None, typer.Option(help="Purge what is over the N newest that count.")]
OlderThan = Annotated[
    int | None, typer.Option("--older-than", metavar="DAYS", help="Purge what is older.")
]
KeepWithin = Annotated[
    str | None, typer.Option(metavar="SPAN", help="Protect those of so long: 14d, 36h, 1y6m.")
]
KeepHourly = Annotated[int | None, typer.Option(help="Protect one an hour, of N hours.")]
KeepDaily = Annotated[int | None, typer.Option(help="Protect one a day, of N days.")]
KeepWeekly = Annotated[int | None, typer.Option(help="Protect one a week, of N weeks.")]
KeepMonthly = Annotated[int | None, typer.Option(help="Protect one a month, of N months.")]
KeepYearly = Annotated[int | None, typer.Option(help="Protect one a year, of N years.")]
Zone = Annotated[str | None, typer.Option(help="IANA time zone of days and weeks.")]
Without = Annotated[
    list[str] | None,
    typer.Option(metavar="RULE", help="Leave that rule out, such as keep_last (repeatable)."),
]
_NO_RULE: Final = "zone"
_ORIGINS: Final = {
    "restored": "a restore brought these rules back; until then only what the rules before it"
    " would purge as well is purged",
    "written": "somebody wrote them past this service; until then only what the rules before"
    " would purge as well is purged",
    "foreign": "they came with another instance's data; nothing is purged until then",
    "unheard": "a restore is over, and it is not known yet of what; nothing is purged until then",
}


@dataclass(frozen=True)
class _Wished:
    """What options name of the rules."""

    named: dict[str, Any]
    without: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.named or self.without)

    def changed(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rules with what is wished. Raises UsageError."""
        changed = {**value, **self.named}
        for rule in self.without:
            name = rule.replace("-", "_")
            if name not in value or name == _NO_RULE:
                rules = ", ".join(sorted(set(value) - {_NO_RULE}))
                raise UsageError(f"--without {rule!r} is no rule", hint=f"The rules are {rules}.")
            changed[name] = None
        return changed


def _wished(without: Sequence[str] | None, **rules: Any) -> _Wished:
    named = {name: value for name, value in rules.items() if value is not None}
    return _Wished(named, without or ())


@app.command()
@command
def show(state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Show the rules."""
    with connected(state) as stack:
        found = stack.configuration.get("retention")
    emit(found, as_json, lambda: _tell(found))


@app.command("set")
@command
def set_rules(
    *,
    keep_last: KeepLast = None,
    older_than: OlderThan = None,
    keep_within: KeepWithin = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    zone: Zone = None,
    without: Without = None,
    if_match: IfMatch = None,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Change what is named here, and no other rule."""
    wished = _wished(
        without, keep_last=keep_last, older_than_days=older_than, keep_within=keep_within,
        keep_hourly=keep_hourly, keep_daily=keep_daily, keep_weekly=keep_weekly,
        keep_monthly=keep_monthly, keep_yearly=keep_yearly, zone=zone,
    )  # fmt: skip
    if not wished:
        raise UsageError("nothing is to be set", hint="Name what: `secryn retention set --help`.")
    with connected(state) as stack:
        now = stack.configuration.get("retention")
        value = wished.changed(now["value"])
        found = stack.configuration.set("retention", value, if_match or now["etag"], reason)
    emit(found, as_json, lambda: _tell(found))


@app.command()
@command
def preview(
    *,
    keep_last: KeepLast = None,
    older_than: OlderThan = None,
    keep_within: KeepWithin = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    zone: Zone = None,
    without: Without = None,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Say for each backup keep or purge, and by which rule; with options, as if those were set."""
    wished = _wished(
        without, keep_last=keep_last, older_than_days=older_than, keep_within=keep_within,
        keep_hourly=keep_hourly, keep_daily=keep_daily, keep_weekly=keep_weekly,
        keep_monthly=keep_monthly, keep_yearly=keep_yearly, zone=zone,
    )  # fmt: skip
    with connected(state) as stack:
        proposed = None
        if wished:
            proposed = wished.changed(stack.configuration.get("retention")["value"])
        found = stack.retention.preview(proposed)
    emit(found, as_json, lambda: _tell_preview(found, proposed is not None))


@app.command()
@command
def run(reason: Reason = "by hand", state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """Apply the rules now, as after a scheduled backup."""
    with connected(state) as stack, shown("Retention", quiet=as_json) as progress:
        ended = stack.retention.wait(stack.retention.run(reason)["run_id"], progress)
    if ended["state"] == "failed":
        raise error_of(ended, ConflictError, "the rules could not be applied")
    emit(ended, as_json, lambda: _tell_run(ended["outcome"] or {}))


@app.command()
@command
def confirm(
    if_match: IfMatch = None,
    reason: Reason = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Let the rules that a restore brought hold: they then purge by themselves."""
    with connected(state) as stack:
        etag = if_match or stack.configuration.get("retention")["etag"]
        found = stack.configuration.confirm("retention", etag, reason)
    emit(found, as_json, lambda: _tell(found))


def _tell(found: Mapping[str, Any]) -> None:
    rules = {name: rule for name, rule in found["value"].items() if rule is not None}
    zone = rules.pop(_NO_RULE)
    if not rules:
        typer.echo("No rules: nothing is purged. Try some: secryn retention preview --keep-last 30")
    for name, rule in rules.items():
        typer.echo(f"{name}: {rule}")
    if rules:
        typer.echo(f"Days are those of {zone}.")
    if found["changed_by"] is not None:
        typer.echo(f"Set by {plain(found['changed_by'])} at {found['changed_at']}.")
    _tell_origin(found)


def _tell_origin(found: Mapping[str, Any]) -> None:
    if found["fault"] is not None:
        typer.echo(f"WHAT IS STORED CANNOT BE READ, and nothing is purged: {found['fault']}")
    if not found["confirmed"]:
        typer.echo(f"NOT CONFIRMED: {_ORIGINS[found['origin']]}: `secryn retention confirm`")


def _tell_preview(found: Mapping[str, Any], proposed: bool) -> None:
    for one in found["backups"]:
        typer.echo(
            f"{one['backup_id']}  {one['taken_at']}  {one['verdict']:<5}  {one['rule']}"
            f"{_STANDINGS.get(one['standing'], '')}"
        )
    typer.echo(f"{found['keep']} kept, {found['purge']} purged.")
    if proposed:
        typer.echo("Nothing was set: `secryn retention set` takes the same options.")
    else:
        _tell_origin(found)


_STANDINGS: Final = {
    "key_expired": "  [NOBODY CAN OPEN IT: its key expired unseen]",
    "damaged": "  [DAMAGED: `secryn backup show` says how]",
    "key_waits": "  [its key waits: `secryn key view`]",
    "key_unknown": "  [counts when a rehearsal shows that its key was stored]",
}


def _tell_run(outcome: Mapping[str, Any]) -> None:
    typer.echo(f"{outcome['purged']} purged, {outcome['kept']} kept.")
    for backup_id in outcome["purged_backups"]:
        typer.echo(f"{backup_id}  purged")
    for backup_id in outcome["refused_backups"]:
        typer.echo(f"{backup_id}  the storage refused: `secryn backup show` says why")
    for one in outcome["skipped"]:
        typer.echo(f"{one['backup_id']}  kept meanwhile [{one['code']}]")
