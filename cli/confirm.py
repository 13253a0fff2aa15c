"""Ask before what cannot be taken back: the instance is named, and typed once more."""

from __future__ import annotations

from collections.abc import Callable

import typer

from cli.connect import Connected
from shared.errors import Cancelled, TargetMismatch


def confirm_instance(
    stack: Connected,
    instance: str,
    yes: bool,
    what: str,
    environment: str | None,
    *,
    also: Callable[[Connected], str] | None = None,
) -> None:
    """Compare what was named with what answers; then ask for the instance to be typed.

    A production environment must be named, any other may be.

    ``what`` says what will happen to it, ``also`` what else is to be known before that. Raises
    TargetMismatch, also with ``yes``; Cancelled.
    """
    if instance != stack.instance_id:
        raise TargetMismatch(f"this stack holds the instance {stack.instance_id}, not {instance}")
    production = stack.environment_kind == "production"
    if environment != stack.environment and (production or environment is not None):
        raise TargetMismatch(
            f"this stack is the {stack.environment_kind} environment {stack.environment}, "
            f"{'none' if environment is None else repr(environment)} was named",
            hint="Name the environment that is meant: `--environment NAME`.",
        )
    if yes:
        return
    typer.echo(f"{what} the instance {instance} ({stack.environment}).", err=True)
    if also is not None:
        typer.echo(also(stack), err=True)
    typed = typer.prompt("Type the id of the instance to go on", err=True)
    if typed.strip() != instance:
        raise Cancelled("what was typed is not the id of the instance; nothing was changed")
