"""Show a running backup or restore on a terminal; say nothing where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from shared.client.http import Progress as OnProgress


@contextmanager
def shown(title: str, *, quiet: bool) -> Iterator[OnProgress]:
    """Yield a function that takes each answer of the service and draws it on stderr.

    Off a terminal a line is printed whenever the step changes, so that a log stays readable.
    """
    console = Console(stderr=True, quiet=quiet)
    if not console.is_terminal:
        yield _line_by_line(title, console)
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None)

        def draw(document: Mapping[str, Any]) -> None:
            done = document.get("progress") or {}
            bar.update(
                task,
                description=_described(title, document),
                completed=done.get("done_bytes") or 0,
                total=done.get("total_bytes") or None,
            )

        yield draw


def _described(title: str, document: Mapping[str, Any]) -> str:
    text = f"{title}: {document.get('step') or document['state']}"
    progress = document.get("progress") or {}
    if rows := progress.get("rows"):
        text += f", {rows:,} rows"
    if (left_s := progress.get("left_s")) is not None:
        text += f", about {left_s:,.0f} s left of it"
    return text


def _line_by_line(title: str, console: Console) -> OnProgress:
    last: str | None = None

    def draw(document: Mapping[str, Any]) -> None:
        nonlocal last
        step = str(document.get("step") or document["state"])
        if step != last:
            console.print(f"{title}: {step}", highlight=False)
            last = step

    return draw
