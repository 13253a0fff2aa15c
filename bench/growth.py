"""A restore at several sizes of the instance: its time grows with the size, its memory does not.

``python -m bench growth``: the sample, grown by copies of its rows to each size in turn. The
largest takes about 25 GB of disk and a quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bench import restore
from bench.figure import Figure
from bench.machine import Machine, tell
from bench.versus import grow

SIZES_MB: Final = (100, 600, 5000)
# What restore_service may have resident, whatever the size.
MOST_MB: Final = 200
# Linear, and not worse: a megabyte of the largest takes no more than that of the smaller one.
MOST_GROWTH: Final = 1.5
_NAMES: Final = ("restore, all of it", "restore, writers held", "restore, peak memory")


def run(machine: Machine) -> list[Figure]:
    """Grow the instance, and back up and restore it at each size."""
    assert machine.loaded.events > 0
    figures: list[Figure] = []
    per_mb: list[float] = []
    for wanted_mb in SIZES_MB:
        size_mb = grow(machine.postgres(), wanted_mb)
        tell(f"measuring at {size_mb:,.0f} MB")
        found = {figure.name: figure for figure in restore.run(machine)}
        figures += _at(wanted_mb, size_mb, found)
        per_mb.append(found["restore, all of it"].value / size_mb)
    return [
        *figures,
        Figure(
            "a MB of the largest over one of 600", per_mb[-1] / per_mb[-2], "x", most=MOST_GROWTH
        ),
    ]


def _at(wanted_mb: int, size_mb: float, found: dict[str, Figure]) -> Iterator[Figure]:
    title = f"{wanted_mb:,} MB"
    yield Figure(f"{title}: tables", size_mb, "MB")
    for name in _NAMES:
        figure = found[name]
        most = MOST_MB if figure.unit == "MB" else None
        yield Figure(f"{title}: {name}", figure.value, figure.unit, most=most)
