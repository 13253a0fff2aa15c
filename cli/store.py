"""A store that stands still, and what to do: for `secryn status`, here and with `--url`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def store_lines(found: Mapping[str, Any] | None, *, elsewhere: bool = False) -> Iterator[str]:
    """Yield what an administrator has to know about the store, as ``/api/v1/status`` tells it."""
    if found is None or not found["stands_still"]:
        return
    yield (
        f"THE STORE STANDS STILL at log offset {found['position']:,}, {found['lag']:,} behind the "
        "log's end: a backup waits for it, and fails."
    )
    if elsewhere:
        yield "How its projector is says `secryn status` on the machine where that runs."
    yield (
        "A projector that is down is started again; an event that it cannot read is passed: "
        "`secryn instance skip-event`. One that is healthy is at work on something long: look "
        "again in a minute."
    )
