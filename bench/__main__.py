"""``python -m bench [SECTION ...] [--scale N] [--json]``.

Without sections all are measured. Exit code 1 when a figure is below what is promised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from bench import (
    age,
    api,
    archive,
    backup,
    fold,
    growth,
    history,
    load,
    preview,
    projector,
    restore,
    versus,
)
from bench.figure import Figure
from bench.machine import DEFAULT_SCALE, Machine, tell
from shared.logs import configure_logs

SECTIONS: dict[str, Callable[[Machine], list[Figure]]] = {
    "fold": fold.run,
    "age": age.run,
    "load": load.run,
    "projector": projector.run,
    "archive": archive.run,
    "backup": backup.run,
    "restore": restore.run,
    "versus": versus.run,
    "preview": preview.run,
    "growth": growth.run,
    "history": history.run,
    "api": api.run,
}


def main() -> int:
    """Measure what was asked for, print it, and say whether every promise is kept."""
    arguments = _arguments()
    configure_logs("bench")
    chosen = arguments.sections or list(SECTIONS)
    figures: list[tuple[str, Figure]] = []
    # Others' load is the usual reason for a low figure.
    load_before = os.getloadavg()[0]
    with Machine(arguments.scale) as machine:
        for name in chosen:
            tell(f"measuring: {name}")
            figures += [(name, figure) for figure in SECTIONS[name](machine)]
    if arguments.json:
        print(json.dumps(_document(figures, arguments.scale, load_before), indent=2))
    else:
        for name, figure in figures:
            print(_line(name, figure, arguments.scale))
        tell(f"{os.cpu_count()} cores; load before: {load_before:.1f}")
    return 0 if all(figure.kept for _, figure in figures) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[1])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--scale", type=int, default=DEFAULT_SCALE, metavar="N",
                        help=f"copies of the sample in the instance ({DEFAULT_SCALE})")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    # Not by `choices`: before Python 3.12 those refuse that no section is named.
    if unknown := sorted(set(arguments.sections) - SECTIONS.keys()):
        parser.error(f"unknown section {unknown[0]}; there are {', '.join(SECTIONS)}")
    return arguments


def _command(section: str, scale: int) -> str:
    return f"python -m bench {section} --scale {scale}"


def _document(
    figures: list[tuple[str, Figure]], scale: int, load_before: float
) -> dict[str, object]:
    return {
        "scale": scale,
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "figures": [
            {
                **asdict(figure),
                "section": name,
                "kept": figure.kept,
                "command": _command(name, scale),
            }
            for name, figure in figures
        ],
    }


def _line(name: str, figure: Figure, scale: int) -> str:
    value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:,.1f}"
    return f"{figure.name:<40} {value:>12} {figure.unit:<9} {_command(name, scale)}  {figure.promise}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
