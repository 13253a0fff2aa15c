"""Start a process from its command line: settings first, every refusal in words."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

import structlog

from shared.errors import SecrynError
from shared.logs import configure_logs
from shared.settingfaults import check_files, check_folders
from shared.settings import CONFIG_ENV, Section, load_settings

S = TypeVar("S", bound=Section)

STOPPED_EARLY: Final = 128 + signal.SIGTERM


def start(
    service: str,
    model: type[S],
    run: Callable[[S], int],
    *,
    module: str | None = None,
    unopened: frozenset[str] = frozenset(),
    read_only: frozenset[str] = frozenset(),
) -> int:
    """Read the settings and run the service; return the exit code.

    ``module`` is what it is started as, where that is not ``service``; ``unopened`` are the
    settings that name files which it never opens, ``read_only`` those of folders which it never
    writes.
    """
    named = os.environ.get(CONFIG_ENV)
    parser = argparse.ArgumentParser(prog=f"python -m {module or service}")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(named) if named else None,
        help=f"TOML file with the settings (0600); else the one that {CONFIG_ENV} names",
    )
    arguments = parser.parse_args()
    # The first process of a container has no default for signals: without this one a stop while
    # it starts is not heard. Nothing is in hand yet.
    signal.signal(signal.SIGTERM, _stop_early)
    configure_logs(service)
    try:
        settings = load_settings(model, arguments.config)
        check_files(settings, leave_out=unopened)
        check_folders(settings, read_only=read_only)
        return run(settings)
    except SecrynError as error:
        structlog.get_logger(service).error(
            "service.refused", code=error.code, reason=error.message, hint=error.advice
        )
        return error.exit_code


def _stop_early(_number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED_EARLY)
