"""`secryn restore voided` and `reapply`: what was written behind a fence, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, MeantEnvironment, State
from cli.output import command, emit, plain
from shared.errors import TargetMismatch

TYPE_PREFIX = "com.secryn.instance."
RestoreId = Annotated[str, typer.Argument(metavar="RESTORE", help="Id of the restore.")]


@command
def voided(restore_id: RestoreId, state: State = DEFAULT_STATE, as_json: Json = False) -> None:
    """List every event that was written behind a restore's fence and made void by it."""
    with connected(state) as stack:
        events = stack.restores.voided(restore_id)
        first = next(events, None)
        # From here on line by line: there may be more of them than memory.
        if as_json:
            typer.echo(f'{{"restore_id": {json.dumps(restore_id)}, "events": [', nl=False)
        count = 0
        event = first
        while event is not None:
            _tell(event, as_json, count)
            count, event = count + 1, next(events, None)
        if as_json:
            typer.echo("]}")
        elif not count:
            typer.echo("Nothing was written behind the fence of this restore.")


def _tell(event: Mapping[str, Any], as_json: bool, count: int) -> None:
    if as_json:
        typer.echo((", " if count else "") + json.dumps(event, ensure_ascii=False), nl=False)
        return
    again = f"  appended again as {event['reapplied_as']}" if event["reapplied_as"] else ""
    kind, actor = event["kind"].removeprefix(TYPE_PREFIX), plain(event["actor"])
    typer.echo(
        f"{event['offset']:>9}  {event['time']}  {plain(event['id'])}  {kind}  {actor}{again}"
    )


@command
def reapply(
    restore_id: RestoreId,
    *,
    offset: Annotated[list[int], typer.Option(help="Offset of a voided event; may be repeated.")],
    instance: Annotated[str, typer.Option(help="Id of the instance that is meant.")],
    environment: MeantEnvironment = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit trail.")] = "by hand",
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Append events again that a restore made void, as new ones; each at most once."""
    with connected(state) as stack:
        if instance != stack.instance_id:
            raise TargetMismatch(
                f"this stack holds the instance {stack.instance_id}, not {instance}"
            )
        found = stack.restores.reapply(
            restore_id,
            offset,
            target_instance_id=instance,
            reason=reason,
            environment=environment,
        )

    def tell() -> None:
        for event in found["events"]:
            kind = event["kind"].removeprefix(TYPE_PREFIX)
            before = "" if event["appended"] else " (appended before)"
            why = f": {plain(event['reason'])}" if event["reason"] else ""
            typer.echo(f"{event['offset']:>9}  {kind}  {event['state']}{before}{why}")

    emit(found, as_json, tell)
