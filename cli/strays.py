"""`secryn restore drop-stray`: what an unknown restore kept, named in the status and dropped here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from cli.confirm import confirm_instance
from cli.connect import connected
from cli.options import DEFAULT_STATE, Json, MeantEnvironment, State
from cli.output import command, emit


@command
def drop_stray(
    restore_id: Annotated[str, typer.Argument(metavar="RESTORE", help="As the status names it.")],
    *,
    instance: Annotated[str, typer.Option(help="Id of the instance that is meant.")],
    environment: MeantEnvironment = None,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit trail.")] = "by hand",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Drop the state that a restore kept which the history does not know; it is gone for good."""
    with connected(state) as stack:
        confirm_instance(stack, instance, yes, "This drops an old state of", environment)
        dropped = stack.restores.drop_stray(
            restore_id, target_instance_id=instance, reason=reason, environment=environment
        )
    emit(dropped, as_json, lambda: typer.echo(f"Dropped: {dropped['kept_as']}"))


def stray_lines(states: Sequence[Mapping[str, Any]], instance: object) -> Iterator[str]:
    """Yield what a status says of stray states, and the command that drops each."""
    for stray in states:
        yield (
            f"A state of before restore {stray['restore_id']} is kept, about "
            f"{stray['size_bytes']:,} bytes, and the history does not know that restore: no backup "
            f"is purged while it is there. To drop it: secryn restore drop-stray "
            f"{stray['restore_id']} --instance {instance}"
        )
