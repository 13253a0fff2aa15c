"""`secryn sample`: fill the instance with real input; keep writing to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
)

from cli.options import DEFAULT_STATE, Json, State
from cli.output import command, emit

app = typer.Typer(help="A sample instance of real input.", no_args_is_help=True)

Scale = Annotated[int, typer.Option(min=1, max=100_000, help="Copies: 2,300 versions each.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed has other names, ids and values.")]
Rate = Annotated[float, typer.Option(min=0.1, max=5_000, help="Events a second.")]
Seconds = Annotated[float, typer.Option(min=0.1, help="How long.")]
Timeout = Annotated[
    float, typer.Option(min=1, help="Seconds to wait until the store has what was written.")
]


@app.command()
@command
def load(
    scale: Scale = 1,
    seed: Seed = 1,
    timeout: Timeout = 900,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Fill the instance: certificates, keys, vaults, secrets with versions, users, rights."""
    from cli.platform import platform
    from shared.instance.sample.load import EVENTS_PER_COPY, check_not_loaded
    from shared.instance.sample.load import load as load_sample

    with platform(state) as parts:
        with parts.pool.connection() as conn:
            check_not_loaded(conn, seed)
        with _progress("Writing the sample", scale * EVENTS_PER_COPY) as bar:
            summary = load_sample(
                parts.writer,
                seed=seed,
                scale=scale,
                on_progress=lambda events, _: bar(events),
            )
        parts.writer.wait_until_stored(summary.last, timeout)
    emit(
        summary.as_dict(),
        as_json,
        lambda: typer.echo(
            f"{summary.events:,} events in {summary.elapsed_s:.1f} s, up to offset"
            f" {summary.last.offset}. Try: secryn instance secret '{summary.example_secret}'"
        ),
    )


@app.command()
@command
def write(  # noqa: PLR0917
    rate: Rate = 20,
    seconds: Seconds = 10,
    seed: Seed = 1,
    timeout: Timeout = 60,
    state: State = DEFAULT_STATE,
    as_json: Json = False,
) -> None:
    """Keep writing into a project of its own; waits while a restore holds the instance."""
    from cli.platform import platform
    from shared.instance.sample.live import LiveWriter

    with platform(state) as parts:
        live = LiveWriter(parts.writer, rate=rate, seconds=seconds, seed=seed)
        with _progress("Writing", int(rate * seconds)) as bar:
            summary = live.run(bar)
        live.wait_until_stored(timeout)
    emit(
        summary.as_dict(),
        as_json,
        lambda: typer.echo(
            f"{summary.events:,} events in {summary.elapsed_s:.1f} s; met {summary.fences_met}"
            f" fences and {summary.epochs_met} restores"
        ),
    )


@contextmanager
def _progress(title: str, expected: int) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Off a terminal nothing is drawn: a log has no use for a bar.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=expected)
        yield _Bar(progress, task)


class _Bar:
    """Draw how many events were acknowledged."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, events: int) -> None:
        self._progress.update(self._task, completed=events)
