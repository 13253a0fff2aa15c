"""Start a service from its command line: settings first, every refusal in words."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from shared.errors import SecrynError
from shared.logs import configure_logs
from shared.settings import Section, load_settings

S = TypeVar("S", bound=Section)


def start(service: str, model: type[S], run: Callable[[S], int]) -> int:
    """Read the settings and run the service; return the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {service}")
    parser.add_argument("--config", type=Path, help="TOML file with the settings (0600)")
    arguments = parser.parse_args()
    configure_logs(service)
    try:
        return run(load_settings(model, arguments.config))
    except SecrynError as error:
        structlog.get_logger(service).error(
            "service.refused", code=error.code, reason=error.message, hint=error.advice
        )
        return error.exit_code
