"""``python -m backup_service.projector --config FILE``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backup_service.projector.app import run
from backup_service.projector.settings import ProjectorSettings
from backup_service.projector.web import SERVICE
from shared.errors import SecrynError
from shared.logs import configure_logs
from shared.settings import load_settings


def main() -> int:
    """Read the settings and run; say on stderr why it cannot."""
    parser = argparse.ArgumentParser(prog="python -m backup_service.projector")
    parser.add_argument("--config", type=Path, required=True, help="the settings file (TOML)")
    arguments = parser.parse_args()
    configure_logs(SERVICE)
    try:
        return run(load_settings(ProjectorSettings, arguments.config))
    except SecrynError as error:
        print(f"projector: {error.message} [{error.code}]\n  {error.advice}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
