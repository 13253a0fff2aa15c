"""The supervisor's process: ``python -m deploy.embedded --state DIR [--report-fd N]``.

Wishes come as one JSON document on standard input, where no other user can read them. With
``--report-fd`` it writes one JSON object a line there: ``{"progress": ...}`` any number of times,
then one of ``{"ready": true}`` and ``{"error": ...}``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import structlog

from deploy.embedded.supervisor import Supervisor
from deploy.embedded.wishes import Wishes
from shared.errors import SecrynError, StackError
from shared.logs import configure_logs

log = structlog.get_logger(__name__)


class Report:
    """The line to the `secryn up` that waits; when that is gone, nobody is told."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def progress(self, text: str) -> None:
        self._send({"progress": text})

    def ready(self) -> None:
        self._send({"ready": True})
        self.close()

    def error(self, error: SecrynError) -> None:
        body = {"code": error.code, "message": error.message, "hint": error.advice}
        self._send({"error": body})
        self.close()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _send(self, document: dict[str, object]) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps(document) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            # Whoever waited has gone; the stack comes up all the same.
            self._stream = None


def main() -> int:
    """Run the supervisor until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="secryn supervisor")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--report-fd", type=int, default=None)
    arguments = parser.parse_args()
    os.umask(0o077)
    configure_logs("supervisor")
    stream = None if arguments.report_fd is None else os.fdopen(arguments.report_fd, "w")
    report = Report(stream)
    supervisor = Supervisor(arguments.state, _read_wishes(), report.progress)
    try:
        return supervisor.run(report.ready, report.error)
    except SecrynError as error:
        log.error("supervisor.failed", code=error.code, reason=error.message)
        report.error(error)
        return error.exit_code
    except Exception as error:
        log.error("supervisor.failed", exc_info=error)
        report.error(StackError(f"an unexpected error: {type(error).__name__}"))
        return StackError.exit_code


def _read_wishes() -> Wishes:
    document: dict[str, Any] = json.loads(sys.stdin.read() or "{}")
    for name in ("kafka_config", "settings"):
        if document.get(name) is not None:
            document[name] = Path(document[name])
    return Wishes(**document)


if __name__ == "__main__":
    sys.exit(main())
