"""A restore with all its checks beside ``pg_restore -j2`` of the same data, in one run.

``python -m bench versus``: the sample, grown to 600 MB of tables by copies of its rows.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import median
from typing import Final

import psycopg

from bench import restore
from bench.backup import make
from bench.figure import MB, Figure, measured
from bench.machine import Machine, tell
from deploy.embedded.postgres import programs

INSTANCE_MB: Final = 600
# A single run tells a tenth more or less.
TURNS: Final = 3
# A restore with all its checks takes at most two thirds of the time of pg_restore.
LEAST_RATIO: Final = 1.5
_GROW = """
INSERT INTO instance.secret_versions
SELECT secret_id, version + %s, sealed, size_bytes, created_at, created_by
FROM instance.secret_versions WHERE version < 1000
"""
_BYTES = """
SELECT sum(pg_table_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'instance' AND c.relkind = 'r'
"""


def run(machine: Machine) -> list[Figure]:
    """Grow the instance; dump and restore it both ways, by turns, and compare what is in the middle."""
    assert machine.loaded.events > 0
    size_mb = grow(machine.postgres(), INSTANCE_MB)
    dump = machine.folder / "instance.dump"
    _run("pg_dump", "-Fc", "-Z1", "-n", "instance", "-f", str(dump), "-d", machine.postgres())
    made = make(machine)
    stock: list[float] = []
    ours: list[float] = []
    for turn in range(TURNS):
        stock.append(_pg_restore(machine, dump))
        figures = restore.timed(machine, made)
        ours += [figure.value for figure in figures if figure.name == restore.ALL_OF_IT]
        tell(f"turn {turn + 1} of {TURNS}: {stock[-1]:.1f} s and {ours[-1]:.1f} s")
    return [
        Figure("instance, tables", size_mb, "MB"),
        Figure("pg_restore -j2", median(stock), "s"),
        *(Figure(f"versus: {figure.name}", figure.value, figure.unit) for figure in figures),
        Figure(f"versus: {restore.ALL_OF_IT}, in the middle", median(ours), "s"),
        Figure("pg_restore's time over ours", median(stock) / median(ours), "x", LEAST_RATIO),
    ]


def _pg_restore(machine: Machine, dump: Path) -> float:
    """Return how many seconds it takes into an empty database."""
    target = machine.fresh_database()
    with measured() as watch:
        _run("pg_restore", "-j2", "--no-owner", "--no-privileges", "-d", target, str(dump))
    return watch.seconds


def grow(dsn: str, size_mb: int) -> float:
    """Copy rows until the tables have ``size_mb``; return how large they are."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        grown = conn.execute("SELECT max(version) / 1000 FROM instance.secret_versions").fetchone()
        assert grown is not None
        for copy in range(grown[0] + 1, 1_000_000):
            row = conn.execute(_BYTES).fetchone()
            assert row is not None
            if float(row[0]) >= size_mb * MB:
                conn.execute("VACUUM ANALYZE instance.secret_versions")
                return float(row[0]) / MB
            tell(f"growing the instance: {float(row[0]) / MB:.0f} MB of {size_mb}")
            conn.execute(_GROW, (copy * 1000,))
    raise AssertionError("an instance has an end")


def _run(program: str, *arguments: str) -> None:
    subprocess.run([str(Path(programs() / program)), *arguments], check=True)
